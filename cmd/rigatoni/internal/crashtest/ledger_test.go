package crashtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

const seed = 1

// token is the n-th token of a stream.
func token(t *testing.T, n int) resumetoken.Token {
	t.Helper()
	tok, err := resumetoken.New(rawToken(n))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func rawToken(n int) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X2B0229296E04", 1_794_000_000, n)}})
	if err != nil {
		panic(err)
	}
	return raw
}

// line is the event of a change, the n-th of its stream.
func line(n int, c Change) string {
	ev := bson.D{
		{Key: "_id", Value: rawToken(n)},
		{Key: "operationType", Value: c.Op.String()},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "d"}, {Key: "coll", Value: c.Doc.Coll}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: c.Doc.ID}}},
	}
	switch c.Op {
	case Insert:
		ev = append(ev, bson.E{Key: "fullDocument", Value: c.document(seed)})
	case Update:
		ev = append(ev, bson.E{Key: "updateDescription", Value: bson.D{{Key: "updatedFields", Value: c.fields(seed)}}})
	}
	text, err := bson.MarshalExtJSON(ev, false, false)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// The stream that was written: two documents, six changes.
var (
	a, b    = Doc{"orders", 1}, Doc{"orders", 2}
	changes = []Change{
		{a, Insert, 1}, {b, Insert, 1}, {a, Update, 2}, {b, Update, 2}, {a, Update, 3}, {a, Delete, 4},
	}
	written = map[Doc][]Change{
		a: {changes[0], changes[2], changes[4], changes[5]},
		b: {changes[1], changes[3]},
	}
)

// Each case is a history: numbers are arrivals (from 1), "c3" begins a process with
// the checkpoint of event 3, and "c0" one without.
func TestLedger(t *testing.T) {
	for _, c := range []struct {
		name, history         string
		twice, lost, madeUp   int
		fault                 string // what one of the faults says; "" for none at all
		contentsOf, versionOf int    // an event to falsify
	}{
		{name: "clean", history: "1 2 3 4 5 6"},
		{name: "repeats from the checkpoint", history: "1 2 3 4 c2 3 4 5 6", twice: 2},
		{name: "killed while repeating", history: "1 2 3 4 c2 3 c2 3 4 5 6", twice: 3},
		{name: "checkpoint moves while repeating", history: "1 2 3 4 5 c1 2 3 c3 4 5 6", twice: 4},
		{name: "a process that did nothing", history: "1 2 c2 c2 3 4 5 6"},
		{name: "lost at the end", history: "1 2 3 4 5", lost: 1, fault: "delete of orders/1 to version 4 was written and never arrived"},
		{name: "lost at a kill", history: "1 2 c2 4 5 6", lost: 1, fault: "update of orders/1 to version 2 was written and never arrived"},
		{name: "repeats with a gap", history: "1 2 3 4 c1 3 4 5 6", twice: 2, fault: "is out of order"},
		{name: "repeats before the checkpoint", history: "1 2 3 c2 1 2 3 4 5 6", twice: 3, fault: "is out of order"},
		{name: "again without a process", history: "1 2 3 3 4 5 6", twice: 1, fault: "was redelivered although no process was started"},
		{name: "back in the middle of a process", history: "1 2 3 4 2 3 4 5 6", twice: 3, fault: "was redelivered although no process was started"},
		{name: "out of order", history: "1 3 2 4 5 6", fault: "insert of orders/2 to version 1 arrived out of order"},
		{name: "no checkpoint", history: "1 2 c0 3 4 5 6", fault: "has no checkpoint"},
		{name: "contents", history: "1 2 3 4 5 6", contentsOf: 3, fault: "arrived with other contents"},
		{name: "version", history: "1 2 3 4 5 6", versionOf: 5, lost: 1, madeUp: 1, fault: "update of orders/1 to version 9 arrived when the document was at version 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(seed, false)
			l.begin(nil)
			for _, word := range strings.Fields(c.history) {
				var n int
				if at, isBegin := strings.CutPrefix(word, "c"); isBegin {
					fmt.Sscan(at, &n)
					cps := map[string]state.Checkpoint{}
					if n > 0 {
						cps[""] = state.Checkpoint{Token: token(t, n)}
					}
					if kept := l.begin(cps); kept != n {
						t.Errorf("begins after %d events, want %d", kept, n)
					}
					continue
				}
				fmt.Sscan(word, &n)
				change := changes[n-1]
				if n == c.versionOf {
					change.Version = 9
				}
				text := line(n, change)
				if n == c.contentsOf {
					text = strings.Replace(text, `"cents":`, `"cents":1`, 1)
				}
				l.arrive("f", []byte(text))
			}
			lost, madeUp := l.compare(written)
			if l.twice != c.twice || lost != c.lost || madeUp != c.madeUp {
				t.Errorf("twice %d, lost %d, made up %d; want %d, %d, %d", l.twice, lost, madeUp, c.twice, c.lost, c.madeUp)
			}
			said := strings.Join(l.faults.words, "\n")
			if (c.fault == "") != (l.faults.n == 0) || !strings.Contains(said, c.fault) {
				t.Errorf("faults: %d, want %q among:\n%s", l.faults.n, c.fault, said)
			}
		})
	}
}

// Many faults of one kind must not crowd out those of another.
func TestLostIsAmongTheWords(t *testing.T) {
	l := newLedger(seed, false)
	l.begin(nil)
	for range 1000 {
		l.arrive("f", []byte("torn"))
	}
	l.compare(written)
	if said := strings.Join(l.faults.words, "\n"); !strings.Contains(said, "was written and never arrived") || l.faults.n != 1006 || len(l.faults.words) > 3*roomFor {
		t.Errorf("%d faults, in words:\n%s", l.faults.n, said)
	}
}

func TestLedgerKeepsStreamsApart(t *testing.T) {
	l := newLedger(seed, true)
	l.begin(nil)
	x, y := Change{Doc{"x", 1}, Insert, 1}, Change{Doc{"y", 1}, Insert, 1}
	l.arrive("f", []byte(line(5, x)))
	l.arrive("f", []byte(line(2, y))) // earlier, and of another stream
	if kept := l.begin(map[string]state.Checkpoint{"x": {Token: token(t, 5)}, "y": {Token: token(t, 1)}}); kept != 1 {
		t.Errorf("begins after %d events, want 1", kept)
	}
	l.arrive("f", []byte(line(2, y)))
	if l.twice != 1 || l.faults.n > 0 {
		t.Errorf("twice %d, faults %v", l.twice, l.faults.words)
	}
}

func TestLedgerRefusesWhatIsNoEvent(t *testing.T) {
	for _, text := range []string{"", "{", "{}", `{"_id":5}`, strings.Replace(line(1, changes[0]), "insert", "drop", 1)} {
		l := newLedger(seed, false)
		l.arrive("f", []byte(text))
		if l.faults.n != 1 {
			t.Errorf("%q: %d faults", text, l.faults.n)
		}
	}
}

func TestTail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	tl := tail{dir: dir, files: map[string]int64{}}
	var got []string
	poll := func(want string) {
		t.Helper()
		if err := tl.poll(func(_ string, line []byte) { got = append(got, string(line)) }); err != nil || strings.Join(got, " ") != want {
			t.Fatalf("got %v, %v, want %s", got, err, want)
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	poll("") // there is no folder yet
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put("p-1.ndjson.partial", "a\nb\nto")
	put("p-2.ndjson", "c\n")
	put("other", "x\n")
	put(".p-1.finished.json", "x\n")
	poll("a b c")
	rename("p-1.ndjson.partial", "p-1.ndjson.partial.0000000007")
	put("p-2.ndjson", "c\nd\n")
	poll("a b c d")
	put("p-1.ndjson.partial.0000000007", "a\n") // cut back
	rename("p-1.ndjson.partial.0000000007", "p-1.ndjson")
	poll("a b c d")
}

func TestConsumer(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	c := consumer{dir: dir, moveTo: to, seen: map[string]bool{}, ledger: newLedger(1, false)}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.take(func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	put("p-1.ndjson.partial", "x")
	put(".p-1.finished.json", "x")
	if left, err := c.left(); err != nil || len(left) != 1 || len(c.seen) > 0 {
		t.Errorf("left %v, %v, taken %v", left, err, c.seen)
	}
	put("p-1.ndjson", "")
	if c.ledger.wrong().n > 0 {
		t.Errorf("faults: %v", c.ledger.wrong().words)
	}
	put("p-1.ndjson", "torn") // again, and torn
	if c.ledger.wrong().n != 2 {
		t.Errorf("faults: %v", c.ledger.wrong().words)
	}
}

func TestPlan(t *testing.T) {
	mix := Mix{50, 35, 15}
	plan := func(seed uint64) (all []Change) {
		for _, l := range lanes(seed, []string{"x", "y"}, 2, 1001, mix) {
			for l.left > 0 {
				docs := map[int64]bool{}
				for _, c := range l.next(10) {
					if docs[c.Doc.ID] {
						t.Fatalf("a batch has %v twice", c.Doc)
					}
					docs[c.Doc.ID] = true
					all = append(all, c)
				}
			}
		}
		return all
	}
	all := plan(7)
	if len(all) != 1001 {
		t.Fatalf("%d changes, want 1001", len(all))
	}
	last, ops := map[Doc]Change{}, map[Op]int{}
	for _, c := range all {
		before := last[c.Doc]
		if c.Version != before.Version+1 || before.Op == Delete || (c.Op == Insert) != (c.Version == 1) {
			t.Fatalf("%v after %v", c, before)
		}
		last[c.Doc] = c
		ops[c.Op]++
	}
	if ops[Insert] < 400 || ops[Update] < 250 || ops[Delete] < 80 {
		t.Errorf("the mix is %v", ops)
	}
	if fmt.Sprint(all) != fmt.Sprint(plan(7)) || fmt.Sprint(all) == fmt.Sprint(plan(8)) {
		t.Error("the plan must depend on the seed, and on nothing else")
	}
}
