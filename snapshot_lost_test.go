package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// starts are how the streams were opened.
func (r *snapRig) starts() string {
	var all []string
	for _, s := range r.source.Starts() {
		text := "now"
		switch {
		case s.Checkpoint != nil:
			text = "token"
		case !s.Time.IsZero():
			text = "time"
		}
		if s.Snapshot {
			text += "+copy"
		}
		if s.SnapshotAgain {
			text += "+again"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// underWay is the state of a copy that is not of this source's log.
const underWay = `{"began":null,"collections":[{"ns":"shop.orders","next":2}],"all":1}`

func TestSnapshotForLostHistory(t *testing.T) {
	for _, c := range []struct {
		name     string
		snapshot string // Config.Snapshot
		policies []string
		copying  bool // as the history was lost
		starts   string
		policy   string // of the gap
		healed   bool
	}{
		{"snapshot", "", []string{"snapshot"}, false, "token now+copy+again", "on-history-lost: snapshot", true},
		{"when-needed", "when-needed", nil, false, "token now+copy+again", "on-history-lost: snapshot", true},
		{"when-needed, and the token alone is lost", "when-needed", []string{"resume-from-time"}, false, "token time", "on-history-lost: resume-from-time", false},
		{"initial is about the first start", "initial", []string{"now"}, false, "token now", "on-history-lost: now", false},
		{"snapshot during a copy", "", []string{"snapshot"}, true, "token now+copy+again", "on-history-lost: snapshot", true},
		{"now during a copy", "", []string{"now"}, true, "token now+copy+again", "on-history-lost: now: snapshot", true},
		{"resume-from-time during a copy", "", []string{"resume-from-time"}, true, "token time+copy+again", "on-history-lost: resume-from-time: snapshot", true},
	} {
		for _, sweeps := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%s, sweeping %v", c.name, sweeps), func(t *testing.T) {
				r := newSnapRig(t, 3)
				r.cfg.Snapshot, r.cfg.OnHistoryLost = c.snapshot, c.policies
				if sweeps {
					r.sweeping(nil)
				}
				state := ""
				if c.copying {
					state = underWay
				}
				r.lose(state)
				lost := r.saved()
				r.dest.deliver = func(context.Context, *rigatoni.Batch) error {
					if gaps := r.gaps(); len(gaps) != 1 {
						t.Errorf("at the first delivery the gaps are %+v", gaps)
					}
					r.dest.deliver = nil
					return nil
				}
				r.mustRun()
				if got := r.starts(); got != c.starts {
					t.Errorf("opened at %s, want %s", got, c.starts)
				}
				r.wantNoCopy()
				gaps := r.gaps()
				if len(gaps) != 1 || gaps[0].Policy != c.policy || gaps[0].From != lost.ClusterTime || !strings.Contains(gaps[0].Reason, rigatoni.ErrHistoryLost.Error()) {
					t.Fatalf("the gaps are %+v", gaps)
				}
				if g := gaps[0]; g.Healed.IsZero() == c.healed || (g.Remains == "") == c.healed {
					t.Errorf("the gap is healed: %+v", g)
				} else if c.healed && sweeps == strings.Contains(g.Remains, "documents that were deleted") {
					t.Errorf("what remains of the gap is %q", g.Remains)
				}
				if s := r.p.Status()[0]; s.Gaps != 1 || s.LastGap.Healed.IsZero() == c.healed {
					t.Errorf("the status has %d gaps, the last is %+v", s.Gaps, s.LastGap)
				}
				want := []string{"read 1:0", "read 2:0", "read 3:0"}
				if sweeps {
					want = append(want, "sweep shop.orders")
				}
				if !c.healed {
					want = nil
				}
				r.wantDelivered(want...)
				if c.healed {
					r.wantLog(1, "level=WARN", "history lost; resuming as on-history-lost says")
					r.wantLog(1, "level=INFO", `msg="snapshot begins"`)
					r.wantLog(1, "level=INFO", `msg="gap healed`, "remains=")
				}
			})
		}
	}
	bubble(t, "while the stream runs", func(t *testing.T) {
		r := newSnapRig(t, 3)
		r.cfg.Snapshot = "when-needed"
		r.source.Append(rigatonitest.Replace("shop.orders", doc(2, 1)))
		r.start()
		time.Sleep(time.Minute)
		r.dest.clear()
		r.source.Fail(fmt.Errorf("%w: gone", rigatoni.ErrHistoryLost))
		time.Sleep(time.Minute)
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.wantDelivered("read 1:0", "read 2:1", "read 3:0")
		if got := r.starts(); got != "now+copy now+copy+again" {
			t.Errorf("opened at %s", got)
		}
		if g := r.gaps(); len(g) != 1 || g[0].Healed.IsZero() {
			t.Errorf("the gaps are %+v", g)
		}
	})
	bubble(t, "with nothing to copy the gap is healed at once", func(t *testing.T) {
		r := newSnapRig(t, 0)
		r.cfg.OnHistoryLost = []string{"snapshot"}
		r.lose("")
		r.mustRun()
		if g := r.gaps(); len(g) != 1 || g[0].Healed.IsZero() {
			t.Errorf("the gaps are %+v", g)
		}
		r.wantLog(1, `msg="gap healed`)
	})
	bubble(t, "a copy of something else does not heal a gap", func(t *testing.T) {
		r := newSnapRig(t, 3)
		cp := state.Checkpoint{}
		for _, g := range []rigatoni.Gap{
			{Policy: "on-history-lost: snapshot", Reason: "lost", At: time.Now()}, // its copy was given up
			{Policy: "checkpoint set --to-now", Reason: "moved", At: time.Now()},
		} {
			var err error
			if cp, err = rigatoni.WithGap(cp, g); err != nil {
				t.Fatal(err)
			}
		}
		r.mustRun()
		saved := r.saved()
		saved.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(strings.Replace(underWay, "null", tokenJSON(t, saved), 1)), "gaps": cp.Extra["gaps"]}
		saved.Sequence = 0
		if err := r.store.Save(t.Context(), "shop", saved); err != nil {
			t.Fatal(err)
		}
		r.mustRun()
		r.wantNoCopy()
		for _, g := range r.gaps() {
			if !g.Healed.IsZero() {
				t.Errorf("healed: %+v", g)
			}
		}
	})
}

func tokenJSON(t *testing.T, cp state.Checkpoint) string {
	doc, err := cp.Token.ExtJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// Three copies that are cut off one after the other stop the pipeline, however long each took.
func TestCopiesThatNeverEnd(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 40)
		r.cfg.OnHistoryLost, r.cfg.MaxBatchEvents, r.cfg.MaxInFlightBytes = []string{"snapshot"}, 1, 1
		r.cfg.DeliverTimeout = -1
		r.dest.deliver = func(ctx context.Context, _ *rigatoni.Batch) error {
			select {
			case <-time.After(10 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		lose := func() {
			cp := r.saved()
			pos, err := rigatoni.PositionAfter(rigatonitest.Insert("shop.gone", doc(1, 1)))
			if err != nil {
				t.Fatal(err)
			}
			cp.Token, cp.ClusterTime, cp.Sequence = pos.Token, pos.ClusterTime, 0
			if err := r.store.Save(t.Context(), "shop", cp); err != nil {
				t.Fatal(err)
			}
		}
		r.cfg.GraceTime = time.Millisecond
		r.lose("")
		for range 3 {
			_ = r.runFor(2 * time.Hour) // the copy takes more
			lose()
		}
		err := r.runFor(2 * time.Hour)
		if !errors.Is(err, rigatoni.ErrTooManyRecoveries) || !errors.Is(err, rigatoni.ErrHistoryLost) || !strings.Contains(err.Error(), "3 copies in a row were cut off") {
			t.Errorf("after three copies that never ended: %v", err)
		}
		if g := r.gaps(); len(g) != 3 {
			t.Errorf("the gaps are %+v", g)
		}
	})
}

// Where a source changes the state as it opens (a copy that was asked for begins there), that is saved before
// anything is delivered.
func TestSnapshotThatWasAskedFor(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 3)
		r.mustRun()
		cp := r.saved()
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(strings.Replace(underWay, "null", tokenJSON(t, cp), 1))}
		cp.Sequence++
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.dest.clear()
		first := true
		r.dest.deliver = func(context.Context, *rigatoni.Batch) error {
			if doc := string(r.saved().Extra[rigatoni.ExtraSnapshot]); first && !strings.Contains(doc, `"began_at"`) { // which the source adds
				t.Errorf("at the first delivery the checkpoint has %s", doc)
			}
			first = false
			return nil
		}
		r.mustRun()
		r.wantDelivered("read 3:0")
		r.wantNoCopy()
		r.wantLog(2, `msg="snapshot begins"`) // and not "resumes": nothing was copied
	})
}
