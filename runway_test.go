package rigatoni

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func TestRunwayOfAHistory(t *testing.T) {
	at := func(sec uint32) bson.Timestamp { return bson.Timestamp{T: sec, I: 1} }
	full := History{Oldest: at(1000), Newest: at(5000), Reach: 4000 * time.Second}
	roomy := History{Oldest: at(1000), Newest: at(5000), Reach: 40000 * time.Second}
	for name, c := range map[string]struct {
		h          History
		checkpoint bson.Timestamp
		want       time.Duration
		known      bool
	}{
		"the time to the oldest entry":             {full, at(4900), 3900 * time.Second, true},
		"an oplog with room left":                  {roomy, at(4900), 39900 * time.Second, true},
		"a checkpoint later than the newest entry": {full, at(5010), 4000 * time.Second, true},
		"the entries after it are discarded":       {full, at(900), 0, true},
		"discarded, and room left":                 {roomy, at(900), 0, true},
		"a history of unknown reach":               {History{Oldest: at(1000), Newest: at(5000)}, at(4900), 0, false},
		"a checkpoint of unknown time":             {full, bson.Timestamp{}, 0, false},
		"no history":                               {History{}, at(4900), 0, false},
	} {
		if got, known := c.h.Runway(c.checkpoint); got != c.want || known != c.known {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, known, c.want, c.known)
		}
	}
}

// oplog is a source whose history a test sets.
type oplog struct {
	*fakeSource
	mu      sync.Mutex
	history History
	err     error
	asked   int
}

func (o *oplog) History(context.Context) (History, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	return o.history, o.err
}

func (o *oplog) set(reach time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Events of the fake source are of second 1000.
	o.history, o.err = History{Oldest: bson.Timestamp{T: 1}, Newest: bson.Timestamp{T: 1000}, Reach: reach}, err
}

func (r *rig) runway() (time.Duration, bool) {
	s := r.p.Status()[0]
	return s.Runway, s.RunwayKnown
}

func TestRunway(t *testing.T) {
	start := func(t *testing.T) (*rig, *oplog, *logCatcher) {
		src := &oplog{fakeSource: newFakeSource(batch(1, 3))}
		src.set(10*time.Hour, nil)
		r, log := newRig(t, src.fakeSource), &logCatcher{}
		r.cfg.Source, r.cfg.Logger = src, log.logger()
		return r, src, log
	}
	bubble(t, "follows the history", func(t *testing.T) {
		r, src, _ := start(t)
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(10 * time.Second)
		if d, known := r.runway(); d != 10*time.Hour || !known {
			t.Errorf("the runway is %v, %v", d, known)
		}
		src.set(9*time.Hour, nil)
		time.Sleep(6 * time.Second)
		if d, known := r.runway(); d != 9*time.Hour || !known {
			t.Errorf("6 s after the history became shorter, the runway is %v, %v", d, known)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "unknown where it can't be read, which is said once and asked ever more seldom", func(t *testing.T) {
		r, src, log := start(t)
		src.set(0, errors.New("not authorized"))
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Hour)
		if d, known := r.runway(); known {
			t.Errorf("the runway is %v", d)
		}
		if n := log.count("the runway is unknown"); n != 1 {
			t.Errorf("it was logged %d times", n)
		}
		if src.asked > 30 {
			t.Errorf("the source was asked %d times in an hour", src.asked)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a warning when it becomes short, and a line when that is over", func(t *testing.T) {
		r, src, log := start(t)
		r.start()
		r.sink.wait(t, 3)
		lines := func(short, over int) {
			t.Helper()
			time.Sleep(20 * time.Second)
			if s, o := log.count("the runway is short"), log.count("the runway is long enough again"); s != short || o != over {
				t.Errorf("short %d, over %d times, want %d and %d", s, o, short, over)
			}
		}
		lines(0, 0)
		src.set(6*time.Hour-time.Second, nil)
		lines(1, 0)
		src.set(6*time.Hour+time.Minute, nil) // it would come and go
		lines(1, 0)
		src.set(7*time.Hour, nil)
		lines(1, 1)
		src.set(time.Hour, nil)
		lines(2, 1)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a source that hangs is not asked again", func(t *testing.T) {
		src := &historySource{fakeSource: newFakeSource(batch(1, 3)), hang: make(chan struct{})}
		defer close(src.hang)
		r, log := newRig(t, src.fakeSource), &logCatcher{}
		r.cfg.Source, r.cfg.Logger = src, log.logger()
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Hour)
		if n := src.asked.Load(); n != 1 || log.count("ignores its context") != 1 {
			t.Errorf("asked %d times", n)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "no warning if there is to be none", func(t *testing.T) {
		r, src, log := start(t)
		src.set(time.Second, nil)
		r.cfg.RunwayWarning = -1
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(time.Minute)
		if log.count("the runway is short") != 0 {
			t.Error("it warns")
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// awayStore is a store that can't be reached while away is set, and doesn't answer to
// renewals while frozen is.
type awayStore struct {
	*memstore.Store
	away, frozen atomic.Bool
}

func (s *awayStore) err() error {
	if s.away.Load() {
		return state.ErrUnavailable
	}
	return nil
}

func (s *awayStore) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	if s.frozen.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Renew(ctx, key, f, ttl)
}

func (s *awayStore) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.SaveFenced(ctx, key, f, cp)
}

// A store that is away shows within a third of the lease's TTL, also where nothing
// is saved.
func TestStatusOfAStoreThatIsAway(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		store := &awayStore{Store: r.store}
		r.cfg.Store = store
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(30 * time.Second)
		if s := r.p.Status()[0]; !s.StoreFailed.IsZero() || time.Since(s.LastSave) > 11*time.Second {
			t.Errorf("nothing is wrong, and nothing to save: %+v", s)
		}
		store.away.Store(true)
		time.Sleep(6 * time.Second)
		if s := r.p.Status()[0]; s.StoreFailed.IsZero() || !errors.Is(s.StoreErr, state.ErrUnavailable) || !errors.Is(s.LastError, state.ErrUnavailable) {
			t.Errorf("6 s after the store went away: %+v", s)
		}
		store.away.Store(false)
		time.Sleep(6 * time.Second)
		if s := r.p.Status()[0]; !s.StoreFailed.IsZero() {
			t.Errorf("6 s after it came back: %+v", s)
		}
		store.frozen.Store(true)
		time.Sleep(8 * time.Second) // a renewal at its end would time out only two seconds later
		if s := r.p.Status()[0]; s.StoreFailed.IsZero() || s.StoreErr == nil {
			t.Errorf("8 s after it froze: %+v", s)
		}
		store.frozen.Store(false)
		time.Sleep(6 * time.Second)
		if s := r.p.Status()[0]; !s.StoreFailed.IsZero() {
			t.Errorf("6 s after it answers again: %+v", s)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// A pipeline that waits for the lease names who has it, and one that resumes shows the
// checkpoint that it resumes from before it has saved one.
func TestStatusOfAWaitingPipeline(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		first := newRig(t, newFakeSource(batch(1, 3)))
		first.cfg.Owner = "the first"
		first.start()
		first.sink.wait(t, 3)
		time.Sleep(2 * time.Second)
		second := newRig(t, first.src)
		second.cfg.Store, second.cfg.Owner, second.cfg.LeaseWait = first.store, "the second", time.Hour
		second.start()
		time.Sleep(20 * time.Second)
		if s := second.p.Status()[0]; s.Holder != "the first" || s.Owner != "" || s.Phase != PhaseLeasing {
			t.Errorf("while it waits: %+v", s)
		}
		if err := first.end(); err != nil {
			t.Fatal(err)
		}
		<-second.p.Ready()
		if s := second.p.Status()[0]; s.Holder != "" || s.Owner != "the second" || !s.Checkpoint.Equal(time.Unix(1000, 0)) || s.LastSave.IsZero() {
			t.Errorf("with the lease: %+v", s)
		}
		if err := second.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// Each refused event counts, and those written to the dead letters apart.
func TestStatusOfRefusedEvents(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.sink.deliver = func(context.Context, *Batch) error { return Permanent(errors.New("no")) }
		r.start()
		if err := <-r.ended; !strings.Contains(err.Error(), "refused") {
			t.Fatal(err)
		}
		if s := r.p.Status()[0]; s.Refused != 1 || s.DeadLetters != 0 {
			t.Errorf("%+v", s)
		}
	})
}
