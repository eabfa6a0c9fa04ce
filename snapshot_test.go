package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestSnapshot(t *testing.T) {
	bubble(t, "a first start copies what exists, and what changes meanwhile comes in order", func(t *testing.T) {
		r := newSnapRig(t, 5)
		before := rigatonitest.Insert("shop.orders", doc(6, 1)) // before the first start, and not copied twice
		first := true
		r.dest.deliver = func(context.Context, *rigatoni.Batch) error {
			if first { // its state and its position are saved before anything is delivered
				var s struct{ Documents int }
				if err := json.Unmarshal(r.saved().Extra[rigatoni.ExtraSnapshot], &s); err != nil || s.Documents != 0 {
					t.Errorf("the checkpoint at the first delivery has %+v, %v", s, err)
				}
				first = false
			}
			return nil
		}
		r.source.Append(before, rigatonitest.Replace("shop.orders", doc(1, 1)), rigatonitest.Replace("shop.orders", doc(4, 1)), rigatonitest.Delete("shop.orders", 5))
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "replace 1:1", "read 3:0", "read 4:1", "read 6:1")
		r.wantNoCopy()
		for _, ev := range r.dest.events {
			if ev.IsSnapshot() != strings.HasPrefix(eventText(ev), "read") {
				t.Errorf("IsSnapshot of %s is %v", eventText(ev), ev.IsSnapshot())
			}
		}
		r.wantLog(1, "level=WARN", "first start: the store has no checkpoint; what exists is copied, and events since")
		r.wantLog(1, "level=INFO", `msg="snapshot begins"`, "documents_estimated=5")
		r.wantLog(1, "level=INFO", `msg="snapshot ended"`, "documents=5", "collections=1")
		r.wantLog(0, "only events since")

		r.dest.clear()
		r.source.Append(rigatonitest.Replace("shop.orders", doc(2, 7)))
		r.mustRun()
		r.wantDelivered("replace 2:7")
		r.wantLog(1, "level=INFO", "nothing is copied: the stream has a checkpoint", "rigatoni checkpoint set --snapshot")
	})
	bubble(t, "never is the default", func(t *testing.T) {
		r := newSnapRig(t, 5)
		r.cfg.Snapshot = ""
		r.mustRun()
		r.wantDelivered()
		r.wantLog(1, "only events since this cluster time are delivered")
		r.wantLog(0, "snapshot")
	})
	bubble(t, "nothing to copy", func(t *testing.T) {
		r := newSnapRig(t, 0)
		r.mustRun()
		r.wantNoCopy()
		r.wantLog(1, "only events since this cluster time are delivered")
	})
	bubble(t, "the beginning of the stream may be a time of the operator's", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.source.Append(rigatonitest.Insert("shop.old", doc(1, 1)), rigatonitest.Insert("shop.old", doc(2, 1)))
		r.cfg.FirstStart.Time = rigatonitest.Insert("shop.x", doc(1, 1)).ClusterTime()
		r.mustRun()
		if s := r.source.Starts()[0]; s.Time != r.cfg.FirstStart.Time || !s.Snapshot || s.Checkpoint != nil {
			t.Errorf("the stream was opened at %+v", s)
		}
		r.wantDelivered("read 1:0", "read 2:0", "read 1:1", "read 2:1")
	})
	bubble(t, "where no first start is allowed there is no copy", func(t *testing.T) {
		r := newSnapRig(t, 2)
		r.cfg.FirstStart.None = true
		if err := r.run(); !errors.Is(err, rigatoni.ErrNoFirstStart) {
			t.Error(err)
		}
		r.wantDelivered()
	})
	bubble(t, "transforms and routers see what is copied", func(t *testing.T) {
		r := newSnapRig(t, 4)
		r.cfg.Transform = func(_ context.Context, ev rigatoni.Event) (rigatoni.Event, bool, error) {
			if ev.OperationType() == "snapshotEnd" {
				t.Error("the transform is called for the end of the copy")
			}
			return rigatonitest.With(ev, "fullDocument", doc(1, 9)), ev.DocumentKey().Lookup("_id").AsInt64() != 2, nil
		}
		routed := 0
		r.cfg.Destination = new(rigatoni.Router).On("shop.orders", func(_ context.Context, ev rigatoni.Event) error {
			if routed++; ev.FullDocument().Lookup("n").AsInt64() != 9 {
				t.Errorf("%v is not transformed", ev.Raw)
			}
			return nil
		}, "read")
		r.mustRun()
		if routed != 3 {
			t.Errorf("%d events were routed, want 3", routed)
		}
		r.wantNoCopy()
	})
}

// A copy goes on where the checkpoint says, after a crash at any save, with nothing lost and
// each document's versions in order.
func TestSnapshotResumes(t *testing.T) {
	for _, interval := range []time.Duration{0, -1} {
		for crash := range 12 {
			bubble(t, fmt.Sprintf("SaveInterval %v, crash at delivery %d", interval, crash+1), func(t *testing.T) {
				r := newSnapRig(t, 7)
				r.cfg.SaveInterval, r.cfg.MaxBatchEvents, r.cfg.GraceTime = interval, 2, time.Millisecond
				r.source.Append(rigatonitest.Replace("shop.orders", doc(2, 1)), rigatonitest.Replace("shop.orders", doc(7, 1)), rigatonitest.Insert("shop.more", doc(8, 1)))
				n := 0
				r.dest.deliver = func(ctx context.Context, _ *rigatoni.Batch) error {
					if n++; n > crash {
						r.stop() // and it does not get to anything more
						<-ctx.Done()
						return ctx.Err()
					}
					time.Sleep(400 * time.Millisecond)
					return nil
				}
				_ = r.run() // it stops with events in hand
				r.dest.deliver = nil
				saved := r.saved()
				if interval < 0 && n > crash {
					r.wantSavedUpTo(saved, r.dest.delivered())
				}
				r.mustRun()
				r.wantNoCopy()
				last := map[string]string{}
				for _, text := range r.dest.delivered() {
					id, version, _ := strings.Cut(text[strings.Index(text, " ")+1:], ":")
					if interval < 0 && last[id] > version {
						t.Errorf("document %s: version %s after %s", id, version, last[id])
					}
					last[id] = version
				}
				for i := range 7 {
					want := map[int]string{2: "1", 7: "1"}[i+1]
					if want == "" {
						want = "0"
					}
					if got := last[fmt.Sprint(i+1)]; got != want {
						t.Errorf("document %d is delivered as %q, want %q: %q", i+1, got, want, r.dest.delivered())
					}
				}
				if last["8"] != "1" {
					t.Errorf("the insert is lost: %q", r.dest.delivered())
				}
				if interval < 0 && crash > 0 {
					counts := map[string]int{}
					for _, text := range r.dest.delivered() {
						if counts[text]++; counts[text] > 1 {
							t.Errorf("%s is delivered twice, although each batch was saved: %q", text, r.dest.delivered())
						}
					}
				}
			})
		}
	}
}

// wantSavedUpTo checks that the state of the copy is not ahead of what was delivered.
func (r *snapRig) wantSavedUpTo(cp state.Checkpoint, delivered []string) {
	r.t.Helper()
	reads := 0
	for _, text := range delivered {
		if strings.HasPrefix(text, "read") {
			reads++
		}
	}
	var s struct{ Documents int }
	if doc := cp.Extra[rigatoni.ExtraSnapshot]; len(doc) > 0 {
		if err := json.Unmarshal(doc, &s); err != nil {
			r.t.Fatal(err)
		}
		if s.Documents > reads {
			r.t.Errorf("the checkpoint says that %d documents are copied, and %d were delivered", s.Documents, reads)
		}
	}
}

func TestSnapshotConfig(t *testing.T) {
	r := newSnapRig(t, 1)
	for _, c := range []struct {
		name string
		set  func(c *rigatoni.Config)
		want string
	}{
		{"no such value", func(c *rigatoni.Config) { c.Snapshot = "always" }, "Config.Snapshot"},
		{"a source that can't", func(c *rigatoni.Config) { c.Source = plainSource{r.source} }, `Config.Snapshot is "initial", but the source (rigatoni_test.plainSource) can't copy: it is no rigatoni.Snapshotter`},
		{"a source that can't now", func(c *rigatoni.Config) { c.Source = unableSource{r.source} }, "but the source can't copy: its Pipeline has a $lookup"},
		{"the policy", func(c *rigatoni.Config) {
			c.Snapshot, c.OnHistoryLost, c.Source = "", []string{"snapshot"}, plainSource{r.source}
		}, `Config.OnHistoryLost has "snapshot", but the source`},
		{"when-needed and now", func(c *rigatoni.Config) { c.Snapshot, c.OnHistoryLost = "when-needed", []string{"now"} }, "leave out one of them"},
		{"snapshot before now", func(c *rigatoni.Config) { c.OnHistoryLost = []string{"snapshot", "now"} }, `has "snapshot" before "now", which would never be tried`},
	} {
		cfg := r.cfg
		c.set(&cfg)
		if _, err := rigatoni.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	cfg := r.cfg
	cfg.Snapshot, cfg.OnHistoryLost = "when-needed", []string{"resume-from-time"}
	if _, err := rigatoni.New(cfg); err != nil {
		t.Error(err)
	}
	// A source that can't copy is no trouble without a snapshot.
	cfg = r.cfg
	cfg.Snapshot, cfg.Source = "never", plainSource{r.source}
	if _, err := rigatoni.New(cfg); err != nil {
		t.Error(err)
	}
}

// plainSource hides that a source can copy.
type plainSource struct{ rigatoni.Source }

type unableSource struct{ rigatoni.Source }

func (unableSource) CanSnapshot() error { return errors.New("its Pipeline has a $lookup") }

// A copy that is under way is not forgotten by a source that can't go on with it.
func TestSnapshotUnderWayNeedsASnapshotter(t *testing.T) {
	for name, source := range map[string]func(rigatoni.Source) rigatoni.Source{
		"no Snapshotter": func(s rigatoni.Source) rigatoni.Source { return plainSource{s} },
		"one that can't": func(s rigatoni.Source) rigatoni.Source { return unableSource{s} },
	} {
		bubble(t, name, func(t *testing.T) {
			r := newSnapRig(t, 5)
			r.lose(`{"began":null,"collections":[{"ns":"shop.orders","next":2}]}`)
			before := r.saved()
			r.cfg.Snapshot, r.cfg.Source = "never", source(r.source)
			if err := r.run(); err == nil || !strings.Contains(err.Error(), "a snapshot is under way, but the source") {
				t.Error(err)
			}
			if got := r.saved(); !got.Equal(before) {
				t.Errorf("the checkpoint was changed: %v", got.Extra)
			}
		})
	}
}

// Never is about the beginning: a copy that is under way goes on.
func TestSnapshotUnderWayGoesOn(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 5)
		r.cfg.MaxBatchEvents = 1
		n := 0
		r.dest.deliver = func(context.Context, *rigatoni.Batch) error {
			if n++; n == 3 {
				r.stop()
				time.Sleep(time.Second)
				return rigatoni.Permanent(errors.New("no"))
			}
			return nil
		}
		if err := r.run(); err == nil {
			t.Fatal("it was not interrupted")
		}
		r.dest.deliver = nil
		r.cfg.Snapshot = "never"
		r.mustRun()
		r.wantDelivered("read 1:0", "read 2:0", "read 3:0", "read 4:0", "read 5:0")
		r.wantNoCopy()
		r.wantLog(1, `msg="snapshot resumes"`, "documents=2")
		r.wantLog(1, `msg="snapshot ended"`)
	})
}

// With lanes, what is read and what changes of one document stay in order, whatever the type of
// its _id.
func TestSnapshotConcurrency(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 0)
		for i := range 40 {
			r.source.Populate("shop.orders", doc(i, 0))
		}
		versions := map[int64][]int64{}
		slow := 0
		var got []string
		mu := make(chan struct{}, 1)
		r.cfg.Concurrency, r.cfg.MaxInFlightBytes = 8, 2000
		r.cfg.Destination = rigatoni.Func(func(_ context.Context, ev rigatoni.Event) error {
			mu <- struct{}{}
			slow++
			wait := time.Duration(slow*7919%13) * time.Millisecond
			<-mu
			time.Sleep(wait)
			mu <- struct{}{}
			defer func() { <-mu }()
			id, _ := ev.DocumentKey().Lookup("_id").AsInt64OK()
			n, _ := ev.FullDocument().Lookup("n").AsInt64OK()
			versions[id] = append(versions[id], n)
			got = append(got, eventText(ev))
			return nil
		})
		r.start()
		for n := range 30 {
			for i := range 40 {
				d := doc(i, n+1)
				d[0].Value = []any{int32(i), int64(i), float64(i)}[(i+n)%3] // the server compares them as equal
				r.source.Append(rigatonitest.Replace("shop.orders", d))
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.wantNoCopy()
		for i := range int64(40) {
			if v := versions[i]; !slices.IsSorted(v) || v[len(v)-1] != 30 {
				t.Errorf("document %d came as %v", i, v)
			}
		}
		isRead := func(s string) bool { return strings.HasPrefix(s, "read") }
		slices.Reverse(got)
		if before := got[slices.IndexFunc(got, isRead):]; len(before) == 40 {
			t.Error("no change came during the copy")
		}
	})
}

// The status has the progress of the copy while it is under way.
func TestSnapshotStatus(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newSnapRig(t, 100)
		r.source.Populate("shop.users", doc(1, 1))
		r.cfg.MaxBatchEvents, r.cfg.MaxInFlightBytes = 2, 100
		r.dest.deliver = func(context.Context, *rigatoni.Batch) error { time.Sleep(2 * time.Second); return nil }
		r.start()
		time.Sleep(41 * time.Second)
		s := r.p.Status()[0].Snapshot
		if s == nil || s.Documents < 30 || s.Documents > 60 || s.DocumentsEstimated != 101 || s.CollectionsTotal != 2 || s.CollectionsDone != 0 {
			t.Errorf("the status of the copy is %+v", s)
		}
		time.Sleep(2 * time.Minute)
		if s := r.p.Status()[0].Snapshot; s != nil {
			t.Errorf("after the copy its status is %+v", s)
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.wantLog(3, "level=INFO", `msg="snapshot progress"`, "documents_estimated=101") // in 102 s
		r.wantLog(1, `msg="snapshot ended"`, "documents=101", "collections=2")
	})
}

// A document that is copied can be refused, as an event can.
func TestSnapshotDeadLetters(t *testing.T) {
	for _, transactional := range []bool{false, true} {
		for _, attempts := range []int{0, 3} { // 0: the error is permanent
			bubble(t, fmt.Sprintf("transactional %v, MaxAttempts %d", transactional, attempts), func(t *testing.T) {
				r := newSnapRig(t, 5)
				r.cfg.MaxAttempts, r.source.SnapshotChunk = attempts, 5
				letters := &keptLetters{}
				r.cfg.DeadLetters = letters
				refuse := func(ev rigatoni.Event) error {
					err := fmt.Errorf("no %s", eventText(ev))
					switch {
					case ev.DocumentKey().Lookup("_id").AsInt64() != 2:
						return nil
					case attempts == 0:
						return rigatoni.Permanent(err)
					}
					return err
				}
				db := rigatonitest.NewDatabase()
				if transactional {
					r.cfg.Store, r.cfg.Destination = nil, db.Client(func(s rigatonitest.Step) rigatonitest.Fault {
						if s.Point == rigatonitest.Applied {
							return rigatonitest.Fault{Err: refuse(s.Event)}
						}
						return rigatonitest.Fault{}
					})
				} else {
					r.dest.deliver = func(_ context.Context, b *rigatoni.Batch) error {
						for _, ev := range b.Events {
							if err := refuse(ev); err != nil {
								return err // of the batch: nobody knows which event
							}
						}
						return nil
					}
				}
				if err := r.runFor(10 * time.Minute); err != nil {
					t.Fatal(err)
				}
				got := r.dest.delivered()
				for _, ev := range db.Events() {
					got = append(got, eventText(ev))
				}
				if want := []string{"read 1:0", "read 3:0", "read 4:0", "read 5:0"}; !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
				if len(letters.got) != 1 || eventText(letters.got[0].Event) != "read 2:0" || !letters.got[0].Event.IsSnapshot() || letters.got[0].Position.Token.IsZero() {
					t.Errorf("the dead letters are %+v", letters.got)
				}
			})
		}
	}
}

// keptLetters keeps dead letters.
type keptLetters struct{ got []rigatoni.DeadLetter }

func (l *keptLetters) Put(_ context.Context, d rigatoni.DeadLetter) error {
	l.got = append(l.got, d)
	return nil
}
