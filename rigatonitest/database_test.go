package rigatonitest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

func TestDatabaseKeepsTheContractOfStores(t *testing.T) {
	statetest.Run(t, func(*testing.T) statetest.Harness {
		db := rigatonitest.NewDatabase()
		return statetest.Harness{Open: func(context.Context) (state.Store, error) { return db.Checkpoints(), nil }}
	})
}

// held is a database whose key "k" is leased, with what a transaction needs.
type held struct {
	*rigatonitest.Database
	fence state.Fence
	batch *rigatoni.Batch
	cp    state.Checkpoint
}

func newHeld(t *testing.T) held {
	t.Helper()
	h := held{Database: rigatonitest.NewDatabase()}
	h.acquire(t)
	events := []rigatoni.Event{rigatonitest.Delete("a.b", 1), rigatonitest.Delete("a.b", 2)}
	pos, err := rigatoni.PositionAfter(events[1])
	if err != nil {
		t.Fatal(err)
	}
	h.batch = &rigatoni.Batch{Events: events}
	h.cp = state.Checkpoint{Token: pos.Token, Sequence: 5}
	return h
}

// acquire takes the lease, from whoever has it.
func (h *held) acquire(t *testing.T) {
	t.Helper()
	store, _ := state.As[state.Leaser](h.Checkpoints())
	g, err := store.Acquire(t.Context(), "k", state.LeaseRequest{Nonce: state.NewNonce(), TTL: time.Minute, Steal: true})
	if err != nil {
		t.Fatal(err)
	}
	h.fence = g.Fence
}

// deliver delivers the batch as the client does to which fault happens.
func (h *held) deliver(ctx context.Context, fault func(rigatonitest.Step) rigatonitest.Fault) error {
	sink, err := h.Client(fault).Open(ctx, rigatoni.Opening{Key: "k"})
	if err != nil {
		return err
	}
	tx, _ := rigatoni.As[rigatoni.Transactional](sink)
	return tx.DeliverAt(ctx, h.batch, h.fence, h.cp)
}

// want checks that this many events are committed, and the checkpoint with them.
func (h *held) want(t *testing.T, events int) {
	t.Helper()
	cp, err := h.Checkpoints().Load(t.Context(), "k")
	if n := len(h.Events()); n != events || errors.Is(err, state.ErrNotFound) != (events == 0) || cp.Token != h.cp.Token && events > 0 {
		t.Errorf("%d events are committed, want %d; the checkpoint is %v, %v", n, events, cp.Token, err)
	}
}

func at(p rigatonitest.Point, f rigatonitest.Fault) func(rigatonitest.Step) rigatonitest.Fault {
	return func(s rigatonitest.Step) rigatonitest.Fault {
		if s.Point != p {
			return rigatonitest.Fault{}
		}
		return f
	}
}

var errBroken = errors.New("broken")

// TestDatabaseTransactions: a transaction takes effect as a whole or not at all,
// wherever it fails, and its repetition does nothing.
func TestDatabaseTransactions(t *testing.T) {
	for p := rigatonitest.Began; p <= rigatonitest.Committed; p++ {
		h := newHeld(t)
		if err := h.deliver(t.Context(), at(p, rigatonitest.Fault{Err: errBroken})); !errors.Is(err, errBroken) {
			t.Errorf("failing at step %d, the client gets %v", p, err)
		}
		if p == rigatonitest.Committed {
			h.want(t, 2)
		} else {
			h.want(t, 0)
		}
		for range 2 {
			if err := h.deliver(t.Context(), nil); err != nil {
				t.Errorf("the repetition after a failure at step %d: %v", p, err)
			}
			h.want(t, 2)
		}
	}
}

// TestDatabaseIsLate: a transaction is executed after its client has given up,
// unless it is fenced off by then.
func TestDatabaseIsLate(t *testing.T) {
	for p := rigatonitest.Began; p <= rigatonitest.Committed; p++ {
		for _, fenced := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := newHeld(t)
				if err := h.deliver(t.Context(), at(p, rigatonitest.Fault{Err: errBroken, After: time.Hour})); !errors.Is(err, errBroken) {
					t.Errorf("late from step %d, the client gets %v", p, err)
				}
				want := 2
				if fenced {
					h.acquire(t) // waits for the transaction, if it has begun
					if p == rigatonitest.Began {
						want = 0
					}
				}
				time.Sleep(2 * time.Hour)
				h.want(t, want)
			})
		}
	}
}

func TestDatabasePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.deliver(ctx, at(rigatonitest.Admitted, rigatonitest.Fault{After: time.Hour})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the client gets %v", err)
		}
		h.want(t, 2) // reading waits for the transaction
	})
}

func TestDatabaseRefuses(t *testing.T) {
	h := newHeld(t)
	old := h.fence
	h.acquire(t)
	for _, f := range []state.Fence{old, {}} {
		h.fence = f
		if err := h.deliver(t.Context(), nil); !errors.Is(err, state.ErrFenced) {
			t.Errorf("under the fence %v: %v", f, err)
		}
	}
	h.want(t, 0)

	h.acquire(t)
	if err := h.deliver(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(t.Context(), rigatoni.Opening{Key: "k", FirstStart: true}); !errors.Is(err, rigatoni.ErrOutputExists) {
		t.Errorf("a first start where there are events: %v", err)
	}
	for _, o := range []rigatoni.Opening{{Key: "k", FirstStart: true, AcceptAnyOutput: true}, {Key: "other", FirstStart: true}, {Key: "k"}} {
		if _, err := h.Open(t.Context(), o); err != nil {
			t.Errorf("opening with %+v: %v", o, err)
		}
	}
}

func TestDatabaseCallsOfTheStoreFail(t *testing.T) {
	db := rigatonitest.NewDatabase()
	cp, ctx := newHeld(t).cp, t.Context()
	err := db.Client(at(rigatonitest.Called, rigatonitest.Fault{Err: errBroken})).Checkpoints().Save(ctx, "k", cp)
	if _, lerr := db.Checkpoints().Load(ctx, "k"); !errors.Is(err, state.ErrUnavailable) || !errors.Is(err, errBroken) || !errors.Is(lerr, state.ErrNotFound) {
		t.Errorf("a call that fails before it is executed: %v; then %v", err, lerr)
	}
	err = db.Client(at(rigatonitest.Executed, rigatonitest.Fault{Err: errBroken, After: time.Nanosecond})).Checkpoints().Save(ctx, "k", cp)
	if _, lerr := db.Checkpoints().Load(ctx, "k"); !errors.Is(err, state.ErrUnavailable) || lerr != nil {
		t.Errorf("a call whose answer is lost: %v; then %v", err, lerr)
	}
}

// A pipeline into a database whose answers get lost applies each event once.
func ExampleDatabase() {
	source := rigatonitest.NewSource(
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}}),
		rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 2}}),
	)
	source.End()

	db := rigatonitest.NewDatabase()
	var lost sync.Once
	client := db.Client(func(s rigatonitest.Step) (f rigatonitest.Fault) {
		if s.Point == rigatonitest.Committed {
			lost.Do(func() { f.Err = errors.New("connection reset") })
		}
		return f
	})
	err := rigatoni.Run(context.Background(), rigatoni.Config{Name: "test", Source: source, Destination: client})
	fmt.Println(len(db.Events()), errors.Is(err, rigatonitest.ErrEnd))
	// Output: 2 true
}

func TestDatabaseWait(t *testing.T) {
	h := newHeld(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Wait(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting in vain: %v", err)
	}
	go func() {
		if err := h.deliver(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}()
	events, err := h.Wait(t.Context(), 2)
	if err != nil || !slices.EqualFunc(events, h.batch.Events, func(a, b rigatoni.Event) bool { return string(a.Raw) == string(b.Raw) }) {
		t.Errorf("waiting for 2 events: %d, %v", len(events), err)
	}
}
