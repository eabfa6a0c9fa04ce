package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// A load is a source whose events are numbered, and what became of them.
type load struct {
	*rigatonitest.Source
	stop func()

	mu        sync.Mutex
	numbers   map[resumetoken.Token]int
	delivered map[int]int // how often
	upTo      int         // all below were delivered
	ahead     error       // a checkpoint was saved ahead of that
	saved     time.Time   // when a save began that went through
	failed    int         // saves that did not
	ended     error       // what a pipeline that went on no more returned
}

// newLoad begins to write events, some 500 a second.
func newLoad(t *testing.T) *load {
	t.Helper()
	l := &load{Source: rigatonitest.NewSource(), numbers: map[resumetoken.Token]int{}, delivered: map[int]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			l.write(t, 5)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	l.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(l.stop)
	return l
}

func (l *load) write(t *testing.T, n int) {
	events := make([]rigatoni.Event, n)
	l.mu.Lock()
	for i := range events {
		events[i] = rigatonitest.Insert("shop.orders", map[string]int{"_id": len(l.numbers)})
		token, err := events[i].Token()
		want(t, err, nil, "Token")
		l.numbers[token] = len(l.numbers)
	}
	l.mu.Unlock()
	l.Append(events...)
}

// written is how many events there are.
func (l *load) written() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.numbers)
}

// Deliver counts. It is the destination of any number of pipelines.
func (l *load) Deliver(_ context.Context, b *rigatoni.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range b.Events {
		token, err := ev.Token()
		if err != nil {
			return err
		}
		l.delivered[l.numbers[token]]++
	}
	for l.delivered[l.upTo] > 0 {
		l.upTo++
	}
	return nil
}

// saving looks at a save before it is made.
func (l *load) saving(cp state.Checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, known := l.numbers[cp.Token]; known && n >= l.upTo {
		l.ahead = fmt.Errorf("the checkpoint is event %d, and only those below %d were delivered", n, l.upTo)
	}
}

func (l *load) savedAt(began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
	} else if began.After(l.saved) {
		l.saved = began
	}
}

// goesOn waits for a save that began after the time given and went through, and
// returns when that was known.
func (l *load) goesOn(t *testing.T, after time.Time) time.Time {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		saved, ended := l.saved, l.ended
		l.mu.Unlock()
		switch {
		case saved.After(after):
			return time.Now()
		case ended != nil:
			t.Fatalf("the pipeline has ended: %v", ended)
		}
	}
	t.Fatal("the pipeline saves no more")
	return time.Time{}
}

// finish waits until everything has been delivered, and judges.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop()
	n := l.written()
	eventually(t, "all events", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.upTo == n
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	want(t, l.ahead, nil, "the checkpoint")
	again := 0
	for _, times := range l.delivered {
		again += times - 1
	}
	t.Logf("%d events were written and delivered, %d of them again; %d saves failed", n, again, l.failed)
}

// A watchedStore shows each save to a load.
type watchedStore struct {
	*redisstore.Store
	load *load
}

func (s watchedStore) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	s.load.saving(cp)
	began := time.Now()
	err := s.Store.SaveFenced(ctx, key, f, cp)
	s.load.savedAt(began, err)
	return err
}

// SaveBatch is one after the other, so that each is seen.
func (s watchedStore) SaveBatch(ctx context.Context, items []state.Item) []error {
	return state.SaveBatch(ctx, struct{ state.Leaser }{s}, items)
}

// start runs a pipeline of l over s; the channel has Run's error.
func (l *load) start(ctx context.Context, t *testing.T, s *redisstore.Store, ttl time.Duration) <-chan error {
	t.Helper()
	p, err := rigatoni.New(rigatoni.Config{
		Name: "shop", Source: l, Destination: opensTo{l}, Store: watchedStore{s, l}, Logger: quiet,
		SaveInterval: 20 * time.Millisecond, LeaseTTL: ttl,
		// What a pipeline adds to the store's own time by waiting longer and longer.
		RetryMax: time.Second,
	})
	want(t, err, nil, "New")
	done := make(chan error, 1)
	go func() {
		err := p.Run(ctx)
		l.mu.Lock()
		l.ended = err
		l.mu.Unlock()
		done <- err
	}()
	return done
}

// TestFailoverUnderLoad: a pipeline goes on by itself when the master of its store
// is killed or freezes, soon after Sentinel or Cluster has named another, and loses
// nothing, although the new master has none of the scripts and forgets them all the
// time.
func TestFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	const slack = 8 * time.Second // over the servers' own time; two would do on a quiet machine
	for name, start := range map[string]func(*testing.T) (*failing, func() []*redisserver.Server){
		"Sentinel": func(t *testing.T) (*failing, func() []*redisserver.Server) {
			// Half a second, the default, is less than a busy machine holds a server up.
			s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{DownAfter: time.Second})
			f := &failing{master: s.Master, settled: s.Settled}
			f.stand.url = s.URL()
			return f, func() []*redisserver.Server { return s.Nodes }
		},
		"Cluster": func(t *testing.T) (*failing, func() []*redisserver.Server) {
			c := redisserver.StartCluster(t, nil)
			slot, err := c.Slot(t.Context(), "shop")
			want(t, err, nil, "Slot")
			f := &failing{settled: c.Settled}
			f.stand.url = c.URL()
			f.master = func(ctx context.Context) (*redisserver.Server, error) { return c.MasterOf(ctx, slot) }
			return f, func() []*redisserver.Server { return c.Nodes }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, nodes := start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l := newLoad(t)
			s := open(t, f.stand.url, redisstore.Options{})
			done := l.start(ctx, t, s, 0)
			keepFlushing(ctx, t, nodes())
			faults := []fault{killed}
			if campaign.Full(t) {
				faults = []fault{killed, frozen, killed, frozen}
			}
			for _, fa := range faults {
				l.goesOn(t, time.Now())
				victim, err := f.master(ctx)
				want(t, err, nil, "master")
				// A replica without the first checkpoint would have the pipeline stop, as it must.
				want(t, victim.Replicated(ctx), nil, "Replicated")
				want(t, fa.begin(ctx, f, victim), nil, fa.name)
				from := time.Now()
				named := make(chan time.Duration, 1)
				go func() {
					f.failedOver(ctx, t, victim)
					named <- time.Since(from)
				}()
				took := l.goesOn(t, from.Add(200*time.Millisecond)).Sub(from)
				own := <-named
				t.Logf("%s: the servers took %v, the pipeline %v", fa.name, own, took)
				if took > own+slack {
					t.Errorf("%s: the pipeline went on %v after the servers had", fa.name, took-own)
				}
				want(t, fa.end(ctx, f, victim), nil, fa.name)
				want(t, f.settled(ctx), nil, "settled")
			}
			l.goesOn(t, time.Now())
			l.finish(t)
			cancel()
			want(t, <-done, nil, "Run")
			cp, err := s.Load(t.Context(), "shop")
			want(t, err, nil, "Load")
			if n := l.numbers[cp.Token]; n != len(l.numbers)-1 {
				t.Errorf("the last checkpoint is event %d of %d", n, len(l.numbers))
			}
		})
	}
}

// keepFlushing has the servers forget all scripts, again and again.
func keepFlushing(ctx context.Context, t *testing.T, nodes []*redisserver.Server) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, s := range nodes {
		wg.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				_, _ = s.Do(ctx, "SCRIPT", "FLUSH") // the server may be down
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// TestStrandedPipeline: a pipeline that is partitioned together with the old master
// continues, and so does another one with the new master: both deliver events. When the
// partition ends, the first one is fenced out, and the checkpoint of the other never
// goes back.
func TestStrandedPipeline(t *testing.T) {
	t.Parallel()
	f := onSentinel(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := newLoad(t)
	const ttl = 2 * time.Second
	old, err := f.stand.owner(ctx, "shop", 1, hasty)
	if err != nil {
		t.Fatalf("the old owner: %v", err)
	}
	defer old.close()
	victim, err := f.master(ctx)
	want(t, err, nil, "master")
	oldDone := l.start(ctx, t, old.Store, ttl)
	l.goesOn(t, time.Now())

	heal := f.strand(victim)
	l.goesOn(t, time.Now()) // on its side
	f.failedOver(ctx, t, victim)
	next, err := f.stand.owner(ctx, "shop", 2, hasty)
	if err != nil {
		t.Fatalf("the new owner: %v", err)
	}
	defer next.close()
	nextDone := l.start(ctx, t, next.Store, ttl)
	var first state.Checkpoint
	eventually(t, "the new owner's saves", func() bool {
		cp, err := next.Load(ctx, "shop")
		if first.Token.IsZero() {
			first = cp
		}
		return err == nil && cp.Sequence > first.Sequence+2
	})
	select {
	case err := <-oldDone:
		t.Errorf("the pipeline that was cut off ended: %v", err)
	default:
	}

	heal()
	err = <-oldDone
	want(t, err, state.ErrLeaseHeld, "the pipeline that was cut off")
	want(t, f.settled(ctx), nil, "settled")
	last, err := next.Load(ctx, "shop")
	want(t, err, nil, "Load")
	for range 50 {
		cp, err := next.Load(ctx, "shop")
		if errors.Is(err, state.ErrUnavailable) {
			continue
		}
		want(t, err, nil, "Load")
		if cp.Sequence < last.Sequence || l.number(cp) < l.number(last) {
			t.Fatalf("the checkpoint went back from event %d to %d", l.number(last), l.number(cp))
		}
		last = cp
	}
	l.finish(t)
	cancel()
	want(t, <-nextDone, nil, "Run")
}

// number is which event a checkpoint is at; that of a position between events is
// not known: a great one.
func (l *load) number(cp state.Checkpoint) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, known := l.numbers[cp.Token]; known {
		return n
	}
	return len(l.numbers)
}

// opensTo is a destination that opens to a sink.
type opensTo struct{ rigatoni.Sink }

func (o opensTo) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return o.Sink, nil }
