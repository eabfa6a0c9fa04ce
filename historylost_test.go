package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// forgotten is a rig whose checkpoint is that of event n, which the source doesn't have.
func forgotten(t *testing.T, n int, policies ...string) *rig {
	r := newRig(t, newFakeSource(batch(1, 3)))
	cp := at(n).delivered()
	cp.Fingerprint, cp.Sequence = testFingerprint, 7
	if err := r.store.Save(t.Context(), "shop", cp); err != nil {
		t.Fatal(err)
	}
	r.cfg.OnHistoryLost = policies
	return r
}

// starts are how the streams were opened: "token", a time, or "now".
func (r *rig) starts() string {
	r.src.mu.Lock()
	defer r.src.mu.Unlock()
	var all []string
	for _, s := range r.src.opens {
		switch {
		case s.Checkpoint != nil:
			all = append(all, "token")
		case !s.Time.IsZero():
			all = append(all, timestampText(s.Time))
		default:
			all = append(all, "now")
		}
	}
	return strings.Join(all, " ")
}

func TestOnHistoryLost(t *testing.T) {
	bubble(t, "by default it stops", func(t *testing.T) {
		r := forgotten(t, 9)
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrHistoryLost) || r.starts() != "token" {
			t.Errorf("%v; opened at %s", err, r.starts())
		}
		r.wantSaved(at(9))
	})
	bubble(t, "the first policy that works, and a gap in the save of its position", func(t *testing.T) {
		r := forgotten(t, 9, "resume-from-time", "now")
		r.sink.deliver = func(context.Context, *Batch) error {
			if gaps, err := Gaps(r.saved()); len(gaps) != 1 || err != nil {
				t.Errorf("before the first delivery the gaps are %+v, %v", gaps, err)
			}
			return nil
		}
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.starts(); got != "token 1000.9" {
			t.Errorf("opened at %s", got)
		}
		gaps, err := Gaps(r.saved())
		if err != nil || len(gaps) != 1 || gaps[0].From != at(9).ClusterTime || gaps[0].Policy != "on-history-lost: resume-from-time" ||
			!strings.Contains(gaps[0].Reason, ErrHistoryLost.Error()) {
			t.Errorf("the gaps are %+v, %v", gaps, err)
		}
		r.wantSaved(at(3))
	})
	bubble(t, "the second policy if the first doesn't help, and the stop if none does", func(t *testing.T) {
		r := forgotten(t, 9, "resume-from-time", "now")
		r.src.openErrs = []error{nil, fmt.Errorf("%w: too long ago", ErrHistoryLost)}
		r.start()
		r.sink.wait(t, 3)
		if err := r.end(); err != nil || r.starts() != "token 1000.9 now" {
			t.Errorf("%v; opened at %s", err, r.starts())
		}
		r = forgotten(t, 9, "resume-from-time")
		r.src.openErrs = []error{nil, fmt.Errorf("%w: too long ago", ErrHistoryLost)}
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrHistoryLost) || !strings.Contains(err.Error(), "too long ago") {
			t.Error(err)
		}
		r.wantSaved(at(9))
	})
	bubble(t, "a checkpoint without a time", func(t *testing.T) {
		r := forgotten(t, 9, "resume-from-time")
		cp := between(9).delivered()
		cp.Fingerprint = testFingerprint
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.start()
		if err := <-r.ended; !errors.Is(err, ErrHistoryLost) || !strings.Contains(err.Error(), "no cluster time") {
			t.Error(err)
		}
	})
}

// While the pipeline runs, a token that was found dead is not tried again, whatever else
// fails meanwhile.
func TestDeadTokenIsTriedOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2), chunk{end: at(2), err: fmt.Errorf("%w: gone", ErrHistoryLost)}))
		r.cfg.OnHistoryLost = []string{"now"}
		away := errors.New("away")
		r.src.openErrs = []error{nil, away, away, nil}
		r.start()
		r.sink.wait(t, 2)
		r.src.mu.Lock()
		r.src.chunks = r.src.chunks[:1] // the next time it goes well
		r.src.mu.Unlock()
		r.sink.wait(t, 4)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.starts(); got != "now now now now" {
			t.Errorf("opened at %s", got)
		}
		gaps, err := Gaps(r.saved())
		if err != nil || len(gaps) != 1 || gaps[0].From != (bson.Timestamp{T: 1000, I: 2}) {
			t.Errorf("the gaps are %+v, %v", gaps, err)
		}
	})
}

// A fourth recovery within an hour stops the pipeline, also if a supervisor starts it
// each time; later it may recover again.
func TestTooManyRecoveries(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := forgotten(t, 9, "now")
		lose := func() error {
			r.src.mu.Lock()
			r.src.openErrs = []error{ErrHistoryLost}
			r.src.mu.Unlock()
			r.start()
			if err := r.p.Wait(t.Context()); err != nil {
				<-r.ended
				return err
			}
			return r.end()
		}
		for range 3 {
			if err := lose(); err != nil {
				t.Fatal(err)
			}
		}
		before := r.saved()
		if err := lose(); !errors.Is(err, ErrTooManyRecoveries) || !errors.Is(err, ErrHistoryLost) {
			t.Errorf("the fourth: %v", err)
		}
		if after := r.saved(); !after.Equal(before) {
			t.Error("the checkpoint was changed")
		}
		time.Sleep(time.Hour + time.Second) // the bubble's time
		if err := lose(); err != nil {
			t.Errorf("after an hour: %v", err)
		}
	})
}

// What CheckStart says of it, without an effect.
func TestCheckStartOnHistoryLost(t *testing.T) {
	r := forgotten(t, 9, "now")
	p, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	before := r.saved()
	c := p.CheckStart(t.Context())[0]
	if c.Err != nil || c.Gap == nil || c.Gap.From != at(9).ClusterTime || c.Gap.Policy != "on-history-lost: now" {
		t.Errorf("%+v, gap %+v", c, c.Gap)
	}
	if after := r.saved(); !after.Equal(before) {
		t.Error("the checkpoint was changed")
	}
}

func TestOnHistoryLostIsChecked(t *testing.T) {
	for _, policies := range [][]string{{"now", "resume-from-time"}, {"now", "now"}, {"later"}} {
		cfg := newRig(t, newFakeSource()).cfg
		cfg.OnHistoryLost = policies
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "OnHistoryLost") {
			t.Errorf("%q: %v", policies, err)
		}
	}
}
