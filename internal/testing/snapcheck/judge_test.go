package snapcheck

import (
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A script is what a server did, in moments from 1 on: "insert c 1 5" gives the document
// 1 of c the stamp 5. A moment "same" has the time of the one before it, as in a
// transaction.
type script struct {
	t  *testing.T
	at bson.Timestamp
	n  int
}

func (s *script) event(line string) rigatoni.Event {
	s.t.Helper()
	if rest, ok := strings.CutPrefix(line, "same "); ok {
		line = rest
	} else {
		s.at.I++
	}
	s.at.T = 1_800_000_000
	s.n++
	var op, coll, more string
	var w int64
	fmt.Sscan(line, &op, &coll, &more, &w)
	d := resumetoken.Decoded{
		Format: resumetoken.FormatV1, ClusterTime: s.at, TxnOpIndex: s.n, UUID: resumetoken.UUID{1},
		DocumentKey: marshal(s.t, bson.D{{Key: "_id", Value: more}}),
	}
	token, err := resumetoken.Encode(d)
	if err != nil {
		s.t.Fatal(err)
	}
	ev := bson.D{
		{Key: "_id", Value: token.Raw()}, {Key: "operationType", Value: op}, {Key: "clusterTime", Value: s.at},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: coll}}},
	}
	switch op {
	case "drop":
	case "rename":
		ev = append(ev, bson.E{Key: "to", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: more}}})
	case "insert":
		ev = append(ev, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: more}}}, bson.E{Key: "fullDocument", Value: stampOf(w, 3).document(more)})
	case "update":
		ev = append(ev, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: more}}},
			bson.E{Key: "updateDescription", Value: bson.D{{Key: "updatedFields", Value: stampOf(w, 3).fields()}}})
	case "delete":
		ev = append(ev, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: more}}})
	default:
		s.t.Fatalf("no such operation: %q", line)
	}
	return rigatoni.Event{Raw: marshal(s.t, ev)}
}

// read is the copy of a document at the moment of an event.
func (s *script) read(at rigatoni.Event, coll, id string, w int64) rigatoni.Event {
	s.t.Helper()
	token, _ := at.Raw.Lookup("_id").DocumentOK()
	return rigatoni.Event{Raw: marshal(s.t, bson.D{
		{Key: "_id", Value: token}, {Key: "operationType", Value: "read"}, {Key: "clusterTime", Value: at.ClusterTime()},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: coll}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}}, {Key: "fullDocument", Value: stampOf(w, 3).document(id)},
	})}
}

func marshal(t *testing.T, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// What the server did, in all cases but those that say otherwise.
const happened = "insert c a 1; insert c b 2; update c a 3; delete c b; insert c b 4; update c a 5; insert c x 6; update c b 7"

// TestJudge: each kind of fault is found, and what is right is no fault. In what was
// delivered a number is an event; "r3:a=5" is the copy of the document a with the stamp 5
// at the moment of event 3; "run" begins a run from a checkpoint.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, server, delivered string
		rules                   Rules
		want                    Kind // "" for none
	}{
		{name: "the stream alone", delivered: "1 2 3 4 5 6 7 8"},
		{name: "a copy at the beginning", delivered: "r2:a=1 r2:b=2 3 4 5 6 7 8"},
		{name: "a copy in the middle, of what is live", delivered: "r4:a=3 5 6 7 8"},
		{name: "copies at several moments", delivered: "r3:a=3 r5:b=4 6 7 8"},
		{name: "a copy at the end", delivered: "r8:a=5 r8:b=7 r8:x=6"},
		{name: "redelivered", delivered: "r2:a=1 r2:b=2 3 4 run 3 4 5 6 7 8"},
		{name: "copied again after a crash, deleted meanwhile", delivered: "r2:a=1 r2:b=2 3 run 4 r4:a=3 5 6 7 8"},
		{name: "deleted before it is copied again, with others left out", delivered: "r2:a=1 r2:b=2 run 4 r6:a=5 r6:b=4 7 8"},

		{name: "an event is missing", delivered: "r2:a=1 r2:b=2 3 4 5 7 8", want: Missing},
		{name: "the last event is missing", delivered: "r2:a=1 r2:b=2 3 4 5 6 7", want: Missing},
		{name: "a document is missing", delivered: "r2:a=1 3 6 7", want: Missing},
		{name: "missing after a crash", delivered: "r2:a=1 r2:b=2 3 run 5 6 7 8", want: Missing},
		{name: "a delete is missing", server: "insert c a 1; delete c a", delivered: "r1:a=1", want: Left},
		{name: "a delete is missing after a crash", server: "insert c a 1; delete c a; insert c b 2", delivered: "r1:a=1 run 3", want: Left},
		{name: "deleted, and then copied", server: "insert c a 1; delete c a", delivered: "2 r2:a=1", want: Torn},
		{name: "not what there was", delivered: "r2:a=1 r2:b=2 3 r3:b=4", want: Torn, rules: Rules{Unfinished: true}},
		{name: "older after newer", delivered: "r4:a=3 5 6 r4:b=2", want: Disorder, rules: Rules{Unfinished: true}},
		{name: "an event after the copy that has it", delivered: "r3:a=3 3 r5:b=4 6 7 8", want: Disorder},
		{name: "events swapped", delivered: "r2:a=1 r2:b=2 4 3 5 6 7 8", want: Disorder},
		{name: "an event twice", delivered: "r2:a=1 r2:b=2 3 3 4 5 6 7 8", want: Twice},
		{name: "a document twice", delivered: "r2:a=1 r2:b=2 r2:a=1 3 4 5 6 7 8", want: Twice},
		{name: "before the document", delivered: "3 r5:a=3 r5:b=4 6 7 8", want: Early},
		{name: "deleted before the document", delivered: "4 r5:a=3 r5:b=4 6 7 8", want: Early},
		{name: "redelivered, and it should be once", delivered: "r2:a=1 r2:b=2 3 4 run 3 4 5 6 7 8", rules: Rules{Once: true}, want: Disorder},
		{name: "collation: before the document, and twice", delivered: "3 r5:a=3 r5:b=4 r5:b=4 6 7 8", rules: Rules{Loose: map[string]bool{"c": true}}},
		{name: "collation: missing all the same", delivered: "r2:a=1 3 6 7", rules: Rules{Loose: map[string]bool{"c": true}}, want: Missing},

		{name: "inside a transaction", server: "insert c a 1; insert c b 2; same update c a 3", delivered: "r1:a=1 2 r2:a=1 3", want: Torn},
		{name: "a copy after a transaction", server: "insert c a 1; insert c b 2; same update c a 3", delivered: "r3:a=3 r3:b=2"},
		{name: "dropped", server: "insert c a 1; insert c b 2; drop c; insert c a 3", delivered: "r2:a=1 3 4"},
		{name: "the drop is missing", server: "insert c a 1; insert c b 2; drop c; insert c a 3", delivered: "r2:a=1 r2:b=2 4", want: Missing},
		{name: "renamed in the copy", server: "insert c a 1; insert c b 2; rename c e; update e a 3", delivered: "r2:a=1 3 4 e4:b=2"},
		{name: "renamed, and the rest is missing", server: "insert c a 1; insert c b 2; rename c e; update e a 3", delivered: "r2:a=1 3 4", want: Missing},
		{name: "renamed onto", server: "insert e b 1; insert c a 2; rename c e; insert c a 3", delivered: "e1:b=1 r2:a=2 3 4"},
		{name: "left after a rename onto", server: "insert e b 1; insert c a 2; rename c e", delivered: "e1:b=1 r2:a=2", want: Left},
		{name: "renamed onto, and dropped with what was not copied", server: "insert e b 1; insert c a 2; rename c e; insert e b 3; drop e", delivered: "e1:b=1 r2:a=2 3 5"},
		{name: "renamed onto, inserted and deleted before it is copied", server: "insert e b 1; insert c a 2; rename c e; insert e b 3; delete e b; insert e b 4", delivered: "e1:b=1 r2:a=2 3 6"},
		{name: "renamed onto, and missing afterwards", server: "insert e b 1; insert c a 2; rename c e; insert e b 3; update e b 4; drop e", delivered: "e1:b=1 r2:a=2 3 4 6", want: Missing},
		{name: "renamed again after a crash", server: "insert c a 1; insert c b 2; rename c e; update e a 3", delivered: "r2:a=1 r2:b=2 3 4 run r2:b=2 3 4"},
		{name: "renamed again after a crash, and left", server: "insert c a 1; insert c b 2; update c b 3; rename c e; delete e b", delivered: "r2:a=1 r3:b=3 4 5 run 3 4", want: Left},
		{name: "renamed away", server: "insert c a 1; rename c z; insert c a 2", delivered: "r1:a=1 2 3", rules: Rules{Watched: func(c string) bool { return c != "z" }}},
		{name: "renamed onto from outside", server: "insert c a 1; insert z a 2; insert z b 3; rename z c; update c a 4", delivered: "r3:a=1 4 r4:a=2 r4:b=3 5", rules: Rules{Watched: func(c string) bool { return c != "z" }}},
		{name: "renamed onto from outside, not copied", server: "insert c a 1; insert z a 2; rename z c", delivered: "r2:a=1 3", rules: Rules{Watched: func(c string) bool { return c != "z" }}, want: Missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := c.server
			if server == "" {
				server = happened
			}
			line := newTimeline()
			s := &script{t: t}
			var events []rigatoni.Event
			for l := range strings.SplitSeq(server, "; ") {
				ev := s.event(l)
				events = append(events, ev)
				line.add(ev)
			}
			f := Judge(line, s.deliver(events, c.delivered), c.rules)
			if c.want == "" && !f.None() || c.want != "" && f.Count[c.want] == 0 {
				t.Errorf("want %q:\n%v", c.want, f)
			}
		})
	}
}

func (s *script) deliver(events []rigatoni.Event, words string) *Recorder {
	s.t.Helper()
	r := NewRecorder()
	run := r.Begin(Run{})
	for word := range strings.FieldsSeq(words) {
		var n int
		var w int64
		switch {
		case word == "run":
			run = r.Begin(Run{Resumed: true})
		case word[0] == 'r' || word[0] == 'e':
			coll := map[byte]string{'r': "c", 'e': "e"}[word[0]]
			at, doc, _ := strings.Cut(word[1:], ":")
			id, stamp, _ := strings.Cut(doc, "=")
			fmt.Sscan(at, &n)
			fmt.Sscan(stamp, &w)
			r.Record(run, s.read(events[n-1], coll, id, w))
		default:
			fmt.Sscan(word, &n)
			r.Record(run, events[n-1])
		}
	}
	return r
}
