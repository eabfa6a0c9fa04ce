package rigatoni

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

func TestWait(t *testing.T) {
	bubble(t, "nil when every stream is open", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.src.names = []string{"a", "b"}
		r.start()
		if err := r.p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if err := r.p.Wait(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
	bubble(t, "Run's error, and a closed Ready, when Run fails first", func(t *testing.T) {
		away := errors.New("no server there")
		for _, streams := range [][]string{{""}, {"a", "b"}} {
			r := newRig(t, newFakeSource())
			r.src.names, r.src.openErrs = streams, []error{nil, away}[2-len(streams):]
			r.start()
			err := r.p.Wait(t.Context())
			if ran := <-r.ended; err == nil || err != ran {
				t.Errorf("%q: Wait returned %v, Run %v", streams, err, ran)
			}
			<-r.p.Ready()
		}
	})
	bubble(t, "an error when it is stopped before", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		if _, err := r.store.Acquire(t.Context(), "shop", state.LeaseRequest{Owner: "other", Nonce: "n", TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		r.cfg.LeaseWait = time.Hour
		r.start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait returned %v", err)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if err := r.p.Wait(t.Context()); err == nil {
			t.Error("Wait returned nil, though no stream was open")
		}
	})
}

func TestStatus(t *testing.T) {
	bubble(t, "each stream has its own", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3), idle(3)))
		r.src.names = []string{"orders", "users"}
		r.cfg.Owner = "me"
		r.sink.deliver = func(_ context.Context, b *Batch) error {
			if b.Stream == "users" {
				return errors.New("away")
			}
			return nil
		}
		if s := newPipeline(t, r).Status(); len(s) != 2 || s[1].Key != "shop/users" || s[1].Phase != PhaseStarting {
			t.Errorf("before Run: %+v", s)
		}
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Minute)
		s := r.p.Status()
		if len(s) != 2 || s[0].Stream != "orders" || s[0].Key != "shop/orders" || s[1].Stream != "users" {
			t.Fatalf("the status is %+v", s)
		}
		o, u := s[0], s[1]
		if o.Phase != PhaseStreaming || o.Owner != "me" || o.Epoch != 1 || o.Events != 3 || o.Bytes != uint64(3*len(event(1).Raw)) || o.Batches != 1 ||
			o.InFlight != 0 || o.LastEvent != time.Unix(1000, 0) || o.Saves < 2 || o.Checkpoint.IsZero() && o.LastSave.IsZero() || o.LastError != nil {
			t.Errorf("orders: %+v", o)
		}
		if u.Events != 0 || u.InFlight != 3 || u.Retries == 0 || u.LastError == nil || u.LastErrorAt.IsZero() {
			t.Errorf("users: %+v", u)
		}
		if lag := u.Lag(time.Now()); lag != 0 {
			t.Errorf("users: a position that is unknown has a lag of %v", lag)
		}
		if lag := (StreamStatus{Position: time.Unix(100, 0)}).Lag(time.Unix(107, 0)); lag != 7*time.Second {
			t.Errorf("the lag is %v", lag)
		}
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Fatal(err)
		}
		s = r.p.Status()
		if s[0].Phase != PhaseStopped || s[1].Phase != PhaseFailed || !errors.Is(s[1].LastError, ErrUndelivered) || s[0].Owner != "" {
			t.Errorf("at the end: %+v", s)
		}
	})
}

// outageStream is a stream whose server doesn't answer since the first event.
type outageStream struct{ Stream }

var errAway = errors.New("no route to it")

func (outageStream) Outage() (time.Time, error)       { return time.Unix(77, 0), errAway }
func (outageStream) Interruptions() map[string]uint64 { return map[string]uint64{"network": 3} }

func TestStatusOfWhatIsWaitedFor(t *testing.T) {
	bubble(t, "who holds the lease, and until when", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		held, err := r.store.Acquire(t.Context(), "shop", state.LeaseRequest{Owner: "other", Nonce: "n", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		r.cfg.LeaseWait = 2 * time.Hour
		begin := time.Now()
		r.start()
		time.Sleep(time.Minute)
		if s := r.p.Status()[0]; s.Phase != PhaseLeasing || s.Holder != "other" || !s.HeldUntil.Equal(begin.Add(time.Hour)) {
			t.Errorf("while it waits: %+v", s)
		}
		if err := r.store.Release(t.Context(), "shop", held.Fence); err != nil {
			t.Fatal(err)
		}
		if err := r.p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.p.Status()[0]; s.Holder != "" || !s.HeldUntil.IsZero() {
			t.Errorf("afterwards: %+v", s)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "since when the server is away", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.cfg.Source = sourceOf{r.src}
		r.start()
		if err := r.p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.p.Status()[0]; !s.Outage.Equal(time.Unix(77, 0)) || s.OutageErr != errAway || s.Interruptions["network"] != 3 {
			t.Errorf("while it is away: %+v", s)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if s := r.p.Status()[0]; !s.Outage.IsZero() || s.OutageErr != nil || s.Interruptions["network"] != 3 {
			t.Errorf("when the stream is closed: %+v", s)
		}
	})
}

// sourceOf opens the streams of another source, whose server is away.
type sourceOf struct{ Source }

func (s sourceOf) Open(ctx context.Context, name string, at Start) (Stream, error) {
	st, err := s.Source.Open(ctx, name, at)
	return outageStream{st}, err
}

func TestStatusLastEvent(t *testing.T) {
	m := &monitor{hooks: &Hooks{}}
	for _, sec := range []uint32{5, 7, 6} { // lanes are not in order
		m.attempted(Delivery{Events: 1}, bson.Timestamp{T: sec})
	}
	if s := m.snapshot(); s.LastEvent != time.Unix(7, 0) {
		t.Errorf("the last event is of %v", s.LastEvent)
	}
}

// Before the stream is open the position is the checkpoint's: all up to it is delivered.
func TestStatusOfALoadedCheckpoint(t *testing.T) {
	m := &monitor{hooks: &Hooks{}}
	saved := time.Unix(1794000000, 0)
	m.loaded(state.Checkpoint{ClusterTime: bson.Timestamp{T: 1000, I: 7}, SavedAt: saved})
	if s := m.snapshot(); !s.Position.Equal(time.Unix(1000, 0)) || !s.Checkpoint.Equal(s.Position) || !s.LastSave.Equal(saved) {
		t.Errorf("%+v", s)
	}
}

func newPipeline(t *testing.T, r *rig) *Pipeline {
	t.Helper()
	p, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHooks(t *testing.T) {
	bubble(t, "each is called", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		var mu sync.Mutex
		var delivered []Delivery
		var saved []Save
		var phases []Phase
		r.cfg.Hooks = Hooks{
			Delivered: func(d Delivery) { mu.Lock(); defer mu.Unlock(); delivered = append(delivered, d) },
			Saved:     func(s Save) { mu.Lock(); defer mu.Unlock(); saved = append(saved, s) },
			PhaseChanged: func(key string, p Phase) {
				mu.Lock()
				defer mu.Unlock()
				if phases = append(phases, p); key != "shop" {
					t.Errorf("the key is %q", key)
				}
			},
		}
		away := errors.New("away")
		r.sink.deliver = func(ctx context.Context, b *Batch) error {
			time.Sleep(time.Millisecond)
			if Attempt(ctx) == 1 {
				return Partial(1, away)
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		size := len(event(1).Raw)
		if len(delivered) != 2 || delivered[0] != (Delivery{"shop", 1, size, 1, time.Millisecond, away}) || delivered[1] != (Delivery{"shop", 2, 2 * size, 2, time.Millisecond, nil}) {
			t.Errorf("delivered %+v", delivered)
		}
		if len(saved) != 2 || saved[1].Events != 3 || saved[1].Err != nil || saved[0].Key != "shop" {
			t.Errorf("saved %+v", saved)
		}
		if want := []Phase{PhaseLeasing, PhaseOpening, PhaseStreaming, PhaseStopping, PhaseStopped}; !slices.Equal(phases, want) {
			t.Errorf("phases %v", phases)
		}
	})
}
