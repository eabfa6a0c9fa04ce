package rigatoni_test

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// The oplog is cut under a stopped pipeline. Every event is delivered, or inside the gap
// on record, whose ends are the checkpoint's time and that of the new beginning.
func TestNowAfterTheOplogIsLost(t *testing.T) {
	onEach(t, bothSmall, func(r *faultRig) {
		r.cfg.OnHistoryLost = []string{"resume-from-time", "now"}
		r.start()
		r.write(3)
		r.awaitDelivery()
		r.stop()
		before := r.saved()
		r.write(3) // nobody will see them
		r.LoseOplog(r.t, r.OplogTime(r.t, -1))
		lost := r.OplogTime(r.t, -1)
		l := &life{}
		r.begin(l)
		gaps, err := rigatoni.Gaps(r.saved())
		if err != nil || len(gaps) != 1 {
			r.t.Fatalf("the gaps are %+v, %v", gaps, err)
		}
		g := gaps[0]
		if g.From != before.ClusterTime || g.To.Compare(lost) < 0 || !strings.HasSuffix(g.Policy, ": now") || time.Since(g.At) > time.Minute {
			r.t.Errorf("the gap is %+v; the checkpoint was at %v, and the last lost event before %v", g, before.ClusterTime, lost)
		}
		r.best = r.written // what is in the gap is accounted for
		r.write(3)
		r.awaitDelivery()
		for _, ev := range l.Events() {
			if ev.ClusterTime().Compare(g.To) < 0 {
				r.t.Errorf("the event of write %d is in the gap, and delivered", number(ev))
			}
		}
		r.stop()
		r.wantDelivered(r.written-2, r.written)
	})
}

// A token that the server can't use, of a time that it has: nothing is skipped.
func TestResumeFromTime(t *testing.T) {
	onEach(t, testserver.Both, func(r *faultRig) {
		r.cfg.OnHistoryLost = []string{"resume-from-time"}
		r.start()
		r.write(3)
		r.awaitDelivery()
		r.stop()
		cp := r.saved()
		cp.Token, cp.Sequence = r.foreignToken(), cp.Sequence+1
		if err := r.store.Save(r.t.Context(), pipelineName, cp); err != nil {
			r.t.Fatal(err)
		}
		r.write(3)
		l := &life{}
		r.begin(l)
		r.awaitDelivery()
		seen := map[int]bool{}
		for _, ev := range l.Events() {
			seen[number(ev)] = true
		}
		for n := 4; n <= 6; n++ {
			if !seen[n] {
				r.t.Errorf("the event of write %d is lost", n)
			}
		}
		gaps, err := rigatoni.Gaps(r.saved())
		if err != nil || len(gaps) != 1 || gaps[0].From != cp.ClusterTime || gaps[0].To.Compare(cp.ClusterTime) > 0 {
			r.t.Errorf("the gaps are %+v, %v; the checkpoint was at %v", gaps, err, cp.ClusterTime)
		}
		r.kill()
	})
}

// foreignToken is the token of an event that the stream does not have.
func (r *faultRig) foreignToken() resumetoken.Token {
	r.t.Helper()
	stream, err := r.DB.Collection("other").Watch(r.t.Context(), bson.A{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer stream.Close(r.t.Context())
	if _, err := r.DB.Collection("other").InsertOne(r.t.Context(), bson.D{}); err != nil {
		r.t.Fatal(err)
	}
	if !stream.Next(r.t.Context()) {
		r.t.Fatal(stream.Err())
	}
	token, err := resumetoken.New(stream.ResumeToken())
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}
