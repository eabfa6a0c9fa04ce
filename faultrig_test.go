package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 60 * time.Second
	// clientTimeout is how long the pipeline's client waits for an answer.
	clientTimeout = time.Second

	pipelineName = "faults"
)

// stores make the stores that a pipeline is tried with.
var stores = map[string]func(*testing.T) state.Store{
	"memstore": func(*testing.T) state.Store { return memstore.New() },
	"filestore": func(t *testing.T) state.Store {
		s, err := filestore.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	},
}

// onEach runs a test on both servers, with each of the stores.
func onEach(t *testing.T, each func(*testing.T, func(*testing.T, *testserver.Server)), test func(*faultRig)) {
	t.Helper()
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *testserver.Server) { test(newFaultRig(t, s, store)) })
		})
	}
}

// A faultRig is a pipeline that reads a server's collection "c", one life after the
// other, and somebody who writes there. The n-th write gives the n-th event.
type faultRig struct {
	*testserver.Server
	t        *testing.T
	newStore func(*testing.T) state.Store
	store    state.Store
	source   *changestream.Source
	cfg      rigatoni.Config
	log      *sharedlog.Buffer

	written int
	best    int // all up to this one have been delivered, in some life

	life   *life
	place  resumetoken.Token // that the life began at; zero at a first start
	cancel context.CancelFunc
	ended  chan error
}

func newFaultRig(t *testing.T, s *testserver.Server, newStore func(*testing.T) state.Store) *faultRig {
	r := &faultRig{Server: s, t: t, newStore: newStore, store: newStore(t), log: &sharedlog.Buffer{}}
	r.watch(changestream.Options{})
	r.cfg = rigatoni.Config{
		Name: pipelineName, MaxBatchAge: -1, SaveInterval: 20 * time.Millisecond, IdleInterval: 20 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("the pipeline's log:\n%s", r.log)
		}
	})
	return r
}

// watch makes the source, with a client of its own that doesn't wait long.
func (r *faultRig) watch(o changestream.Options) {
	r.t.Helper()
	o.Database, o.Collections = r.DB.Name(), []string{"c"}
	o.MaxAwait, o.ReopenMin, o.ReopenMax = 50*time.Millisecond, time.Millisecond, 50*time.Millisecond
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	client := r.Connect(r.t, options.Client().SetAppName(pipelineName).SetTimeout(clientTimeout))
	var err error
	if r.source, err = changestream.New(client, &o); err != nil {
		r.t.Fatal(err)
	}
}

// A life is a pipeline's destination, which can die.
type life struct {
	rigatonitest.Destination
	mu   sync.Mutex
	dead bool

	hold    chan struct{} // deliveries wait for it to be closed, if there is one
	holding atomic.Bool
}

var errDead = errors.New("the process is dead")

func (l *life) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return l, nil }

func (l *life) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	if l.hold != nil {
		l.holding.Store(true)
		select {
		case <-l.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return rigatoni.Permanent(errDead)
	}
	return l.Destination.Deliver(ctx, b)
}

func (l *life) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

// start begins a life, and waits until it streams (true) or has failed.
func (r *faultRig) start() bool {
	r.t.Helper()
	return r.begin(&life{})
}

func (r *faultRig) begin(l *life) (streams bool) {
	r.t.Helper()
	cp, err := r.store.Load(r.t.Context(), pipelineName)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		r.t.Fatal(err)
	}
	r.life, r.place = l, cp.Token
	r.cfg.Source, r.cfg.Destination, r.cfg.Store = r.source, l, r.store
	p, err := rigatoni.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r.cancel, r.ended = cancel, ended
	go func() { ended <- p.Run(ctx) }()
	wait, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	err = p.Wait(wait)
	if wait.Err() != nil {
		r.t.Fatal("the pipeline does not start")
	}
	return err == nil
}

// stop ends a life cleanly.
func (r *faultRig) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.outcome(); err != nil {
		r.t.Fatalf("a clean stop: %v", err)
	}
}

// outcome is what the pipeline returns when it ends, which it must.
func (r *faultRig) outcome() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.ended = nil
		r.judge()
		return err
	case <-time.After(patience):
		r.t.Fatal("the pipeline does not end")
		return nil
	}
}

// crash ends a life as SIGKILL would: the next one finds the checkpoint as it is at
// this moment, and what is delivered or saved after it never was.
func (r *faultRig) crash() {
	r.t.Helper()
	r.life.die()
	cp := r.saved()
	r.kill()
	r.judge()
	r.store = r.newStore(r.t)
	if err := r.store.Save(r.t.Context(), pipelineName, cp); err != nil {
		r.t.Fatal(err)
	}
}

func (r *faultRig) kill() {
	if r.ended != nil {
		r.life.die()
		r.cancel()
		<-r.ended
		r.ended = nil
	}
}

func (r *faultRig) saved() state.Checkpoint {
	r.t.Helper()
	cp, err := r.store.Load(r.t.Context(), pipelineName)
	if err != nil {
		r.t.Fatal(err)
	}
	return cp
}

// judge looks at what a life that is over has delivered: events in the server's order
// without a gap, all of them behind the checkpoint that it began at, and none before
// what was delivered already missing. It notes how far the lives have come.
func (r *faultRig) judge() {
	r.t.Helper()
	last, before := 0, r.place
	for _, ev := range r.life.Events() {
		token, err := ev.Token()
		if err != nil {
			r.t.Fatal(err)
		}
		if order, ok := resumetoken.Compare(token, before); !before.IsZero() && (!ok || order <= 0) {
			r.t.Errorf("the event of write %d comes although it is not behind the checkpoint or the event before it", number(ev))
		}
		before = token
		n := number(ev)
		if n == 0 {
			continue // a drop, an invalidate
		}
		switch {
		case last == 0 && n > r.best+1:
			r.t.Errorf("lost: a life begins with the event of write %d, and those up to %d had been delivered", n, r.best)
		case last != 0 && n != last+1:
			r.t.Errorf("out of order or lost: the event of write %d comes after that of %d", n, last)
		}
		last = n
	}
	r.best = max(r.best, last)
}

// number is which write an event is of; 0 for one that is of none.
func number(ev rigatoni.Event) int {
	v := ev.UpdateDescription().Lookup("updatedFields", "n")
	if ev.OperationType() == "insert" {
		v = ev.FullDocument().Lookup("n")
	}
	n, _ := v.AsInt64OK()
	return int(n)
}

// documents is how many documents the writes are of, in turns.
const documents = 5

// write writes n times, each until it is done.
func (r *faultRig) write(n int) {
	for range n {
		r.written++
		for deadline := time.Now().Add(patience); ; {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			err := r.put(ctx, r.written)
			cancel()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				r.t.Errorf("write %d: %v", r.written, err)
				return
			}
		}
	}
}

// put makes the n-th write. An attempt whose answer was lost may yet be executed, also
// when later writes have been: it then finds the document changed and does nothing, so
// that each write makes one event.
func (r *faultRig) put(ctx context.Context, n int) error {
	id := bson.D{{Key: "_id", Value: n % documents}, {Key: "n", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: n}}}}}}
	_, err := r.DB.Collection("c").UpdateOne(ctx, id, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: n}}}}, upsert())
	if mongo.IsDuplicateKeyError(err) {
		return nil
	}
	return err
}

// awaitDelivery waits until the life has delivered all that was written.
func (r *faultRig) awaitDelivery() {
	r.t.Helper()
	r.await(fmt.Sprintf("the event of write %d", r.written), func() bool {
		events := r.life.Events()
		return len(events) > 0 && slices.ContainsFunc(events[max(0, len(events)-10):], func(ev rigatoni.Event) bool { return number(ev) == r.written })
	})
}

// await waits for something while the pipeline runs.
func (r *faultRig) await(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		select {
		case err := <-r.ended:
			r.ended <- err
			r.t.Fatalf("waiting for %s, the pipeline ended: %v", what, err)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s", what)
		}
	}
}

// delivered are the numbers of the life's events.
func (r *faultRig) delivered() (ns []int) {
	for _, ev := range r.life.Events() {
		if n := number(ev); n != 0 {
			ns = append(ns, n)
		}
	}
	return ns
}

// wantDelivered wants these events of the life, no less, and no event twice.
func (r *faultRig) wantDelivered(from, to int) {
	r.t.Helper()
	var want []int
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	if got := r.delivered(); !slices.Equal(got, want) {
		r.t.Errorf("delivered the events of writes %v, want %d to %d", got, from, to)
	}
}

// code is the server's code in an error; 0 for none.
func code(err error) int {
	var e mongo.CommandError
	errors.As(err, &e)
	return int(e.Code)
}

func upsert() *options.UpdateOneOptionsBuilder { return options.UpdateOne().SetUpsert(true) }
