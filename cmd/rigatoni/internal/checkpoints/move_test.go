package checkpoints

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// Whatever the checkpoint is set to, each event between the old position and the new
// one is redelivered, or lies in the gap that is recorded, and the dry run says how
// many they are.
func TestEveryEventIsAccountedFor(t *testing.T) {
	testserver.Both(t, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		begin := f.now()
		const n = 30
		f.insert("orders", 1, n/2)
		f.insert("others", 1, 5)
		f.insert("orders", n/2+1, n)
		f.again()
		all := f.after(begin, n)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		old := begin
		f.save(begin)
		for range 8 {
			var to Target
			switch i := random.IntN(n); random.IntN(3) {
			case 0:
				to = TokenTarget(all[i].Token)
			case 1:
				to.Time = all[i].ClusterTime
			default:
				to.Now = true
			}
			f.accountFor(all, old, f.set(to))
			old = f.load()
		}
	})
}

func (f *fixture) accountFor(all []state.Checkpoint, old state.Checkpoint, c *Change) {
	f.t.Helper()
	now := f.load()
	var skipped, redelivered []bson.Timestamp
	for _, ev := range all {
		afterOld := compare(PositionOf(ev), PositionOf(old)) > 0
		afterNow := compare(PositionOf(ev), PositionOf(now)) > 0
		switch {
		case afterOld && !afterNow:
			skipped = append(skipped, ev.ClusterTime)
		case !afterOld && afterNow:
			redelivered = append(redelivered, ev.ClusterTime)
		}
	}
	gaps, err := rigatoni.Gaps(now)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, at := range skipped {
		last := gaps[len(gaps)-1]
		if at.Before(last.From) || at.After(last.To) || c.Effect != effectSkips {
			f.t.Errorf("an event of %v is skipped, and the gap is %+v (%s)", at, last, c.Effect)
		}
	}
	if len(redelivered) > 0 && c.Effect != effectRedelivers {
		f.t.Errorf("%d events are redelivered, and the change says %s", len(redelivered), c.Effect)
	}
	if before, err := rigatoni.Gaps(old); err != nil || len(skipped) == 0 && len(gaps) != len(before) {
		f.t.Errorf("nothing is skipped, and there are %d gaps after %d, %v", len(gaps), len(before), err)
	}
	if n := int64(len(skipped) + len(redelivered)); c.Effect != effectNone && (c.Events == nil || *c.Events != n || c.AtLeast) {
		f.t.Errorf("%d events lie between, and the change says: %s", n, c.effectText())
	}
	if now.Fingerprint != old.Fingerprint || now.Sequence == 0 {
		f.t.Errorf("the checkpoint is now %+v", now)
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(ev state.Checkpoint) bool { return compare(PositionOf(ev), PositionOf(now)) <= 0 })
	for i, got := range f.after(now, len(rest)) {
		if got.Token != rest[i].Token {
			f.t.Errorf("a start there delivers another event as number %d", i)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	testserver.Both(t, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		begin := f.now()
		f.insert("orders", 1, 3)
		f.insert("others", 1, 1)
		f.again()
		f.save(f.after(begin, 3)[1])
		t.Run("a time in the future", func(t *testing.T) {
			at := f.server.Now()
			at.T += 30
			if err := f.refuses(Target{Time: at}, ErrRefused); !strings.Contains(err.Error(), "in the future of the server, whose time is 20") {
				t.Error(err)
			}
		})
		t.Run("the token of an event that the stream does not have", func(t *testing.T) {
			other := newFixtureOf(t, db, &changestream.Options{Database: db.DB.Name(), Collections: []string{"others"}})
			begin.Fingerprint = ""
			if err := f.refuses(TokenTarget(other.after(begin, 1)[0].Token), rigatoni.ErrHistoryLost); !strings.Contains(err.Error(), "--to-time 1") {
				t.Error(err)
			}
		})
		t.Run("a token that is none", func(t *testing.T) {
			doc, _ := bson.Marshal(bson.D{{Key: "_data", Value: "no token"}})
			token, err := resumetoken.New(doc)
			if err != nil {
				t.Fatal(err)
			}
			f.refuses(TokenTarget(token), rigatoni.ErrHistoryLost)
		})
		t.Run("by a duration, without a checkpoint", func(t *testing.T) {
			f.key.Stream = "new"
			f.server.watch, f.key.Configured = nil, false
			_, err := f.mover.Set(t.Context(), f.key, "set", Target{By: time.Hour})
			if !errors.Is(err, ErrUnknownStream) {
				t.Error(err)
			}
		})
	})
}

func TestSetByWithoutACheckpoint(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	f.refuses(Target{By: -time.Hour}, ErrRefused)
}

// An event's token of another deployment is refused, although the server would open
// an idle stream with it.
func TestTokenOfAnotherDeployment(t *testing.T) {
	here, there := testserver.Mongod(t), testserver.Mongotest(t)
	f, other := newFixture(t, here), newFixture(t, there)
	begin := other.now()
	other.insert("orders", 1, 1)
	foreign := other.after(begin, 1)[0]
	// The server's clock has to be past the token's.
	id := 0
	for f.server.Now().T <= foreign.ClusterTime.T+1 {
		id++
		f.insert("others", id, id)
		f.again()
	}
	f.save(f.now())
	f.refuses(TokenTarget(foreign.Token), rigatoni.ErrHistoryLost)
	foreign.Token = f.load().Token // what it is of decides, even if the token is good
	f.refuses(Target{Token: &foreign}, rigatoni.ErrChangedStream)
	f.save(foreign)
	f.refuses(Target{Now: true}, rigatoni.ErrChangedStream)
}

func TestTimeBeforeTheOplog(t *testing.T) {
	testserver.BothOwn(t, testserver.SmallOplog, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		begin := f.now()
		f.insert("orders", 1, 3)
		first := f.after(begin, 3)[0]
		f.save(begin)
		db.LoseOplog(t, db.OplogTime(t, -1))
		f.insert("orders", 4, 6)
		f.again()
		err := f.refuses(Target{Time: first.ClusterTime}, rigatoni.ErrHistoryLost)
		if !strings.Contains(err.Error(), "its oldest event is of 20") || !strings.Contains(err.Error(), "--to-oldest") {
			t.Error(err)
		}
		f.refuses(TokenTarget(first.Token), rigatoni.ErrHistoryLost)

		// The way out says that what it skips can't be counted, and records the gap.
		c := f.set(Target{Oldest: true})
		if c.Effect != effectSkips || c.Events != nil || !strings.Contains(c.EventsUnknown, "can't resume") || strings.Contains(c.EventsUnknown, "changestream") {
			t.Errorf("%+v", c)
		}
		gaps, err := rigatoni.Gaps(f.load())
		if err != nil || len(gaps) != 1 || gaps[0].From != begin.ClusterTime || gaps[0].To != f.load().ClusterTime || gaps[0].Policy != "checkpoint set --test" {
			t.Errorf("%+v, %v", gaps, err)
		}
		f.after(f.load(), 3)
	})
}

func TestNeverUnderALiveLease(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	f.save(f.now())
	leaser := f.store.(state.Leaser)
	g, err := leaser.Acquire(t.Context(), keyName, state.LeaseRequest{Owner: "pipeline 1", Nonce: "n", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	held := &state.HeldError{}
	err = f.refuses(Target{Time: f.server.Now()}, state.ErrLeaseHeld)
	if !errors.As(err, &held) || held.Owner != "pipeline 1" || held.Until.IsZero() {
		t.Errorf("%v", err)
	}
	c, err := f.mover.Clear(t.Context(), f.key)
	if err != nil || c.Owner != "pipeline 1" {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := f.mover.Execute(t.Context(), c); !errors.Is(err, state.ErrLeaseHeld) || c.Executed {
		t.Errorf("clear: %v", err)
	}
	if err := leaser.Renew(t.Context(), keyName, g.Fence, time.Millisecond); err != nil {
		t.Fatal(err)
	}

	// A dead owner is fenced off, also if it comes back to life.
	for deadline := time.Now().Add(time.Minute); ; {
		if err = f.mover.Execute(t.Context(), c); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || !c.Executed {
		t.Fatal(err)
	}
	cp := f.now()
	cp.Sequence = g.LastSequence + 1
	if err := leaser.SaveFenced(t.Context(), keyName, g.Fence, cp); !errors.Is(err, state.ErrFenced) {
		t.Errorf("the old owner saved: %v", err)
	}
	if _, err := f.store.Load(t.Context(), keyName); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the checkpoint was not cleared: %v", err)
	}
}

// What was planned on another checkpoint than is there now is not done.
func TestCompareAndSet(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	f.save(f.now())
	f.insert("orders", 1, 1)
	f.again()
	set, err := f.mover.Set(t.Context(), f.key, "set", Target{Now: true})
	if err != nil {
		t.Fatal(err)
	}
	clear, err := f.mover.Clear(t.Context(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	between := f.now()
	f.save(between)
	between = f.load()
	for _, c := range []*Change{set, clear} {
		if err := f.mover.Execute(t.Context(), c); !errors.Is(err, ErrMoved) || c.Executed {
			t.Errorf("%s: %v", c.Action, err)
		}
		if got := f.load(); !got.Equal(between) {
			t.Errorf("%s changed it: %+v", c.Action, got)
		}
	}
	if _, err := f.store.(state.Leaser).Acquire(t.Context(), keyName, state.LeaseRequest{Owner: "o", Nonce: "n", TTL: time.Second}); err != nil {
		t.Errorf("the lease was not released: %v", err)
	}
}

func TestFirstCheckpoint(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	f.insert("orders", 1, 3)
	f.again()
	c := f.set(Target{Oldest: true})
	cp := f.load()
	st, err := f.server.Stream(f.key, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Old != nil || c.Effect != effectStarts || c.Gap != nil || cp.Fingerprint != st.Fingerprint {
		t.Errorf("%+v, %+v", c, cp)
	}
	f.after(cp, 3)
}

// A checkpoint that disappeared under a running pipeline is the old position, and
// what is after it is a gap.
func TestLostCheckpoint(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	known := f.now()
	if err := f.store.Save(t.Context(), keyName+lostSuffix, known); err != nil {
		t.Fatal(err)
	}
	f.insert("orders", 1, 3)
	f.again()
	r, err := List(t.Context(), f.store, f.server, "")
	if err != nil || len(r.Checkpoints) != 1 || r.Checkpoints[0].Key != keyName || r.Checkpoints[0].State != stateLost || r.Checkpoints[0].ClusterTime != text(known.ClusterTime) {
		t.Errorf("%+v, %v", r, err)
	}
	c := f.set(Target{Now: true})
	if c.Effect != effectSkips || c.Old.State != stateLost || *c.Events != 3 || c.Gap.From != known.ClusterTime {
		t.Errorf("%+v", c)
	}
	if _, err := f.store.Load(t.Context(), keyName+lostSuffix); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the record is still there: %v", err)
	}
	for _, there := range []bool{false, true} {
		err := errors.Join(f.store.Clear(t.Context(), keyName), f.store.Save(t.Context(), keyName+lostSuffix, known))
		if there {
			f.save(f.now())
		}
		if c, errPlan := f.mover.Clear(t.Context(), f.key); err == nil && errPlan == nil {
			err = f.mover.Execute(t.Context(), c)
		}
		if r, errList := List(t.Context(), f.store, nil, ""); err != nil || errList != nil || len(r.Checkpoints) != 0 {
			t.Errorf("%+v, %v, %v", r, err, errList)
		}
	}
}

// What stands beside the token is kept.
func TestSetKeepsExtra(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	cp := f.now()
	cp.Extra = map[string]json.RawMessage{"destination": json.RawMessage(`{"file":"x"}`)}
	cp, err := rigatoni.WithGap(cp, rigatoni.Gap{To: cp.ClusterTime, Reason: "earlier", Policy: "now"})
	if err != nil {
		t.Fatal(err)
	}
	f.save(cp)
	f.insert("orders", 1, 1)
	f.again()
	f.set(Target{Now: true})
	got := f.load()
	gaps, err := rigatoni.Gaps(got)
	if string(got.Extra["destination"]) != `{"file":"x"}` || err != nil || len(gaps) != 2 || gaps[0].Reason != "earlier" {
		t.Errorf("%s, %v", got.Extra, err)
	}
}

func TestClearOfADamagedCheckpoint(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	dir := t.TempDir()
	store, err := filestore.Open(dir, &filestore.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	f.store, f.mover.Store = store, store
	f.save(f.now())
	f.save(f.now())
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, dir)
	if store, err = filestore.Open(dir, &filestore.Options{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	f.store, f.mover.Store = store, store
	if err := f.refuses(Target{Now: true}, state.ErrCorrupt); !strings.Contains(err.Error(), "rigatoni checkpoint clear") {
		t.Error(err)
	}
	r, err := Show(t.Context(), f.store, f.server, []Key{f.key})
	if err != nil || r.Checkpoints[0].State != stateDamaged || !errors.Is(r.Err(), state.ErrCorrupt) {
		t.Errorf("%+v, %v", r, err)
	}
	c, err := f.mover.Clear(t.Context(), f.key)
	if err != nil || c.Old.State != stateDamaged {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := f.mover.Execute(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Load(t.Context(), keyName); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	testserver.Both(t, func(t *testing.T, db *testserver.Server) {
		f := newFixture(t, db)
		begin := f.now()
		f.insert("orders", 1, 2)
		event := f.after(begin, 1)[0]
		for name, k := range map[string]Key{"with the configuration": f.key, "by the fingerprint": {Name: keyName}} {
			for _, cp := range []state.Checkpoint{begin, event} {
				f.save(cp)
				r, err := Show(t.Context(), f.store, f.server, []Key{k})
				if err != nil || r.Err() != nil || !r.Checkpoints[0].Verdict.Opens || r.Checkpoints[0].Lag == nil {
					t.Errorf("%s: %+v, %v, %v", name, r, err, r.Err())
				}
			}
		}
		event.Fingerprint = strings.Replace(event.Fingerprint, "collections=orders", "collections=orders,users", 1)
		f.save(event)
		r, err := Show(t.Context(), f.store, f.server, []Key{f.key})
		changed := &rigatoni.ChangedStreamError{}
		if err != nil || !errors.As(r.Err(), &changed) || r.Checkpoints[0].Verdict.Opens {
			t.Errorf("%+v, %v, %v", r, err, r.Err())
		}
		if _, err := Show(t.Context(), f.store, f.server, []Key{{Name: "shopp"}}); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), `it has "shop"`) {
			t.Error(err)
		}
	})
}

func TestExportAndImport(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	begin := f.now()
	f.insert("orders", 1, 3)
	cp := f.after(begin, 3)[1]
	cp.Extra = map[string]json.RawMessage{"destination": json.RawMessage(`1`)}
	cp, err := rigatoni.WithGap(cp, rigatoni.Gap{To: cp.ClusterTime, Reason: "earlier", Policy: "now", At: time.UnixMilli(1).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	f.save(cp)
	x, err := ExportKeys(t.Context(), f.store, []Key{f.key})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = ReadExport(doc); err != nil {
		t.Fatal(err)
	}
	to := newFixture(t, f.db)
	got, err := x.For(Key{Name: "another"}, true)
	if err != nil {
		t.Fatal(err)
	}
	to.set(Target{Token: &got})
	to.again()
	moved := to.load()
	if moved.Token != cp.Token || moved.Fingerprint != cp.Fingerprint || moved.ClusterTime != cp.ClusterTime || string(moved.Extra["gaps"]) != string(cp.Extra["gaps"]) || string(moved.Extra["destination"]) != "1" {
		t.Errorf("%+v", moved)
	}
	// Over a checkpoint that has gaps of its own, both are kept.
	to.set(Target{Oldest: true})
	to.set(Target{Now: true})
	to.set(Target{Token: &got})
	gaps, err := rigatoni.Gaps(to.load())
	if err != nil || len(gaps) != 2 || gaps[0].Reason != "earlier" || gaps[1].Policy != "checkpoint set --test" {
		t.Errorf("%+v, %v", gaps, err)
	}
	if _, err := x.For(Key{Name: "another"}, false); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	for _, bad := range []string{"", "{}", `{"rigatoni_checkpoints":2}`, "[1]"} {
		if _, err := ReadExport([]byte(bad)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEndedContext(t *testing.T) {
	f := newFixture(t, testserver.Mongotest(t))
	f.save(f.now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.mover.Set(ctx, f.key, "set", Target{Now: true}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
