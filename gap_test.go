package rigatoni

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

var someGap = Gap{
	From: bson.Timestamp{T: 1794000000, I: 2}, To: bson.Timestamp{T: 1794000100, I: 1},
	Reason: "the oplog no longer reaches back", Policy: "now", At: time.Date(2026, 11, 23, 0, 46, 0, 5e6, time.UTC),
}

func TestGaps(t *testing.T) {
	t.Run("kept beside what else is in Extra, which the caller's checkpoint does not share", func(t *testing.T) {
		before := state.Checkpoint{Extra: map[string]json.RawMessage{"destination": json.RawMessage(`1`)}}
		cp, err := WithGap(before, someGap)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Gaps(cp)
		if err != nil || !reflect.DeepEqual(got, []Gap{someGap}) || string(cp.Extra["destination"]) != "1" || len(before.Extra) != 1 {
			t.Errorf("%+v, %v; Extra %s, before %s", got, err, cp.Extra, before.Extra)
		}
		const want = `[{"from":"1794000000.2","to":"1794000100.1","reason":"the oplog no longer reaches back","policy":"now","at":"2026-11-23T00:46:00.005Z"}]`
		if string(cp.Extra["gaps"]) != want {
			t.Errorf("stored as %s", cp.Extra["gaps"])
		}
	})
	t.Run("an unknown beginning", func(t *testing.T) {
		g := someGap
		g.From = bson.Timestamp{}
		cp, err := WithGap(state.Checkpoint{}, g)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Gaps(cp); err != nil || got[0] != g {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("the last 100", func(t *testing.T) {
		var cp state.Checkpoint
		for i := range 103 {
			g := someGap
			g.Policy = fmt.Sprint(i)
			var err error
			if cp, err = WithGap(cp, g); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := Gaps(cp); len(got) != 100 || got[0].Policy != "3" || got[99].Policy != "102" {
			t.Errorf("%d gaps, from %v to %v", len(got), got[0], got[len(got)-1])
		}
	})
	t.Run("a record that can't be read is not replaced", func(t *testing.T) {
		for _, doc := range []string{`{}`, `[{"from":"1","to":"2.2"}]`, `[{"to":"x"}]`, `[{"to":"1.4294967296"}]`, `[{"from":"-1.1","to":"1.1"}]`} {
			cp := state.Checkpoint{Extra: map[string]json.RawMessage{"gaps": json.RawMessage(doc)}}
			if _, err := Gaps(cp); err == nil {
				t.Errorf("%s was read", doc)
			}
			if _, err := WithGap(cp, someGap); err == nil {
				t.Errorf("%s was replaced", doc)
			}
		}
	})
}

func TestAnAcceptedChangeIsOnRecord(t *testing.T) {
	bubble(t, "with the save that accepts it, once, and for good", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 2), batch(3, 4)))
		cp := at(2).delivered()
		cp.Fingerprint = "another stream"
		if err := r.store.Save(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		r.cfg.AcceptChangedStream = "abc"
		r.sink.deliver = func(context.Context, *Batch) error {
			r.wantGaps(cp.ClusterTime, cp.ClusterTime)
			return nil
		}
		for range 2 {
			r.start()
			if err := r.p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := r.p.Status()[0].Gaps; n != 1 {
				t.Errorf("Status has %d gaps", n)
			}
			r.sink.wait(t, 2)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			r.wantSaved(at(4))
			r.wantGaps(cp.ClusterTime, cp.ClusterTime)
		}
	})
}

// wantGaps checks that one gap is on record, from an accepted change.
func (r *rig) wantGaps(from, to bson.Timestamp) {
	r.t.Helper()
	gaps, err := Gaps(r.saved())
	if err != nil || len(gaps) != 1 || gaps[0].From != from || gaps[0].To != to || gaps[0].Policy != "accept-changed-stream" ||
		gaps[0].Reason != "the stream changed: another stream → "+testFingerprint || gaps[0].At.IsZero() {
		r.t.Errorf("the checkpoint has the gaps %+v, %v", gaps, err)
	}
}
