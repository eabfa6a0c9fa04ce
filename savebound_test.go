package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"
)

// savedNumber is the number of the event that the checkpoint is at.
func (r *rig) savedNumber() int { return int(r.saved().ClusterTime.I) }

func TestSaveBound(t *testing.T) {
	const slow = 10 * time.Millisecond
	for name, c := range map[string]struct {
		change func(*Config)
		bound  int // events that a crash would redeliver
	}{
		"with the interval":                  {func(c *Config) {}, 101},
		"with a longer one":                  {func(c *Config) { c.SaveInterval = 3 * time.Second }, 301},
		"after every batch":                  {func(c *Config) { c.SaveInterval, c.MaxBatchEvents = -1, 10 }, 9},
		"after every batch, and it is large": {func(c *Config) { c.SaveInterval = -1 }, 101},
		"with lanes":                         {func(c *Config) { c.Concurrency = 4 }, 4 * 102},
	} {
		bubble(t, "a slow handler and one large reply, "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 900)))
			c.change(&r.cfg)
			worst := 0
			var mu sync.Mutex
			r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
				mu.Lock()
				worst = max(worst, len(r.sink.delivered())-r.savedNumber())
				mu.Unlock()
				time.Sleep(slow)
				r.sink.record([]Event{ev})
				return nil
			})
			r.start()
			r.sink.wait(t, 900)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if worst > c.bound {
				t.Errorf("a crash would have redelivered %d events, want at most %d", worst, c.bound)
			}
			r.wantSaved(at(900))
		})
	}
	bubble(t, "a save is not held up by a delivery that hangs", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 5)))
		hang := make(chan struct{})
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			if number(ev) == 4 {
				<-hang
			}
			return nil
		})
		r.start()
		time.Sleep(2 * time.Second)
		r.wantSaved(at(3))
		close(hang)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a source that gives no position in between does not take one away", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2), chunk{}))
		r.start()
		r.sink.wait(t, 2)
		time.Sleep(time.Minute)
		r.wantSaved(at(2))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// A last sequence outlives the checkpoint that was cleared: a new checkpoint's is
// above it, or the store would refuse every save as stale.
func TestSequenceAfterClear(t *testing.T) {
	bubble(t, "the grant's last sequence is used", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2)))
		cp := at(1).delivered()
		cp.Sequence = 41
		if err := errors.Join(r.store.Save(t.Context(), "shop", cp), r.store.Clear(t.Context(), "shop")); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.sink.wait(t, 2)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.saved().Sequence; got <= 41 {
			t.Errorf("sequence %d after 41", got)
		}
	})
}

// What others keep beside the token stays, through saves and accepted changes.
func TestExtra(t *testing.T) {
	bubble(t, "an accepted change keeps what Sync returned", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2), batch(3, 4)))
		cp := at(2).delivered()
		cp.Fingerprint = "another stream"
		cp.Extra = map[string]json.RawMessage{"destination": []byte(`"7 lines"`), "others": []byte(`[1]`)}
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.cfg.Destination, r.cfg.AcceptChangedStream, r.cfg.AcceptOutput = syncSink{r.sink}, "abc", "def"
		r.sink.deliver = func(context.Context, *Batch) error {
			if got := r.saved().Extra; string(got["destination"]) != `"7 lines"` || string(got["others"]) != "[1]" {
				t.Errorf("beside the accepted checkpoint stands %s", got)
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 2)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.saved().Extra; string(got["destination"]) != "2" || string(got["others"]) != "[1]" {
			t.Errorf("beside the last checkpoint stands %s", got)
		}
		if o := r.sink.opened[0]; string(o.Saved) != `"7 lines"` || o.FirstStart || o.AcceptOutput != "def" || o.ClusterTime != cp.ClusterTime || o.SavedAt.IsZero() {
			t.Errorf("opened with %+v", o)
		}
	})
}
