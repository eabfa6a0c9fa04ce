package mongodb_test

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// shorter than the minute after which a server ends a transaction by itself
const takeoverTime = 30 * time.Second

// A process that is frozen inside a transaction, at any of its commands, doesn't hold up the
// one that takes over, which ends its session; and it changes nothing when it thaws.
func TestFrozenOwner(t *testing.T) {
	t.Parallel()
	// The commands of a first transaction: announcing the session, claiming the collection
	// (find, listCollections, create, insert), saving the checkpoint, writing, committing.
	for step := 0; ; step++ {
		l := newLab(t)
		thaw := make(chan struct{})
		f := &faults{Fault: destinationtest.Fault{Step: 1 << 30, Kind: destinationtest.Freeze, Thaw: thaw}}
		frozen := newRig(t, lab{l.uri, l.db, connect(t, l.uri, f)}, l.options())
		f.Step = int(f.steps.Load()) + step
		ended := make(chan error, 1)
		go func() { ended <- frozen.try("", doc(1, "old")) }()
		for !f.reached() {
			select {
			case err := <-ended:
				must(t, err)
				if step < 6 {
					t.Errorf("a transaction has %d commands only", step)
				}
				return
			case <-time.After(time.Millisecond):
			}
		}
		began := time.Now()
		next := newRig(t, l, l.options())
		if took := time.Since(began); took > takeoverTime {
			t.Errorf("step %d: to take over took %v", step, took)
		} else {
			t.Logf("step %d: took over in %v", step, took)
		}
		next.deliver(doc(1, "new"))
		close(thaw)
		if err := <-ended; err == nil || errors.As(err, new(*rigatoni.PermanentError)) {
			t.Errorf("step %d: the old owner's transaction ended with %v", step, err)
		}
		if err := frozen.try("", doc(1, "old")); !errors.Is(err, state.ErrFenced) {
			t.Errorf("step %d: the old owner's next transaction: %v, want ErrFenced", step, err)
		}
		wantDocuments(t, l.mirrored("orders"), "at the end", bson.D{{Key: "_id", Value: int32(1)}, {Key: "by", Value: "new"}})
	}
}

func doc(id int32, by string) rigatoni.Event {
	return rigatonitest.Replace("shop.orders", bson.D{{Key: "_id", Value: id}, {Key: "by", Value: by}})
}
