package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A comparingSource has fingerprints of two words, filter and collections: "all
// users,orders".
type comparingSource struct {
	*fakeSource
	of map[string]string // collections by stream
}

func (s comparingSource) Overlaps(_ context.Context, stream string) (func(string) Overlap, error) {
	return func(text string) Overlap {
		filter, collections, _ := strings.Cut(text, " ")
		ours := strings.Split(s.of[stream], ",")
		switch {
		case !slices.ContainsFunc(strings.Split(collections, ","), func(c string) bool { return slices.Contains(ours, c) }):
			return NoOverlap
		case filter != "all":
			return SomeOverlap
		}
		return SameButCollections
	}, nil
}

// comparing has the rig read these collections, in one stream or in one of each.
func (r *rig) comparing(oneEach bool, collections ...string) {
	s := comparingSource{r.src, map[string]string{"": strings.Join(collections, ",")}}
	r.src.names = []string{""}
	if oneEach {
		s.of, r.src.names = map[string]string{}, collections
		for _, c := range collections {
			s.of[c] = c
		}
	}
	r.cfg.Source = s
}

// have saves a checkpoint at the cluster time {seconds, 1}.
func have(t *testing.T, s state.Store, key, fingerprint string, seconds uint32) {
	t.Helper()
	cp := at(1).delivered()
	cp.ClusterTime, cp.Fingerprint = bson.Timestamp{T: seconds, I: 1}, fingerprint
	if err := s.Save(t.Context(), key, cp); err != nil {
		t.Fatal(err)
	}
}

// once starts the pipeline and stops it again.
func (r *rig) once(t *testing.T) error {
	t.Helper()
	r.start()
	select {
	case <-r.p.Ready():
	case err := <-r.ended:
		return err
	}
	return r.end()
}

// refusal starts the pipeline and returns why it refuses its first start.
func (r *rig) refusal(t *testing.T) *FirstStartError {
	t.Helper()
	r.src.opens = nil
	err := r.once(t)
	refused := new(FirstStartError)
	if !errors.As(err, &refused) {
		t.Fatalf("the start returned %v", err)
	}
	if len(r.src.opens) > 0 {
		t.Error("the stream was opened all the same")
	}
	return refused
}

func keysOf(found []Finding) string {
	var keys []string
	for _, f := range found {
		keys = append(keys, f.Key)
	}
	return strings.Join(keys, " ")
}

// TestFirstStartBesideOtherCheckpoints: a first start is refused beside a checkpoint
// of the same events under another name, and beside no other.
func TestFirstStartBesideOtherCheckpoints(t *testing.T) {
	for _, c := range []struct {
		name    string
		have    map[string]string // fingerprints by key
		oneEach bool
		reads   string
		found   string // keys; "" for none
		seeds   bool
	}{
		{"renamed", map[string]string{"old": "all orders"}, false, "orders", "old", false},
		{"renamed, and another filter", map[string]string{"old": "few orders"}, false, "orders,users", "old", false},
		{"another pipeline on other collections", map[string]string{"old": "all users", "old/x": "all clients"}, false, "orders", "", false},
		{"another one that says nothing", map[string]string{"old": ""}, false, "orders", "", false},
		{"a stream of this name that says nothing", map[string]string{"shop/old": ""}, false, "orders", "shop/old", false},
		{"a stream that was renamed", map[string]string{"shop/clients": "all clients"}, true, "customers", "shop/clients", false},
		{"renamed, one of each", map[string]string{"old/a": "all a", "old/b": "all b", "old/c": "all c"}, true, "a,b", "old/a old/b", false},
		{"one of each, after one of all", map[string]string{"shop": "all a,b"}, true, "a,b", "", true},
		{"one of each, after one of others", map[string]string{"shop": "all x,y"}, true, "a,b", "", false},
		{"one of all, after one of each", map[string]string{"shop/a": "all a", "shop/b": "all b", "shop/c": "all c"}, false, "a,b,c", "", true},
		{"one of all, after one of each that had another filter", map[string]string{"shop/a": "few a", "shop/b": "all b"}, false, "a,b", "shop/a", true},
		{"another name that begins alike", map[string]string{"shopping": "all x", "shop-2/x": "all x"}, false, "orders", "", false},
		{"the record of another one's loss", map[string]string{LostKey("old"): "all orders"}, false, "orders", "old", false},
		{"the record of an old loss of another one", map[string]string{LostKey("old"): "all orders", "old": "all users"}, false, "orders", "", false},
		{"what is kept beside another one", map[string]string{"old/@instances/1": "all orders"}, false, "orders", "", false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.comparing(c.oneEach, strings.Split(c.reads, ",")...)
			for i, key := range slices.Sorted(maps.Keys(c.have)) {
				have(t, r.store, key, c.have[key], 5000-uint32(i%2))
			}
			if c.found != "" {
				refused := r.refusal(t)
				if keysOf(refused.Found) != c.found || !errors.Is(refused, ErrOtherCheckpoint) || refused.Accept == "" {
					t.Fatalf("refused for %q: %v", keysOf(refused.Found), refused)
				}
				for _, f := range refused.Found {
					if f.ClusterTime.T < 4000 || f.SavedAt.IsZero() || !strings.Contains(f.Facts, clock(f.ClusterTime)) {
						t.Errorf("a finding without facts: %+v", f)
					}
				}
				r.cfg.FirstStart.Accept = "0123456789ab," + refused.Accept
			}
			if err := r.once(t); err != nil {
				t.Fatal(err)
			}
			if !c.seeds {
				return
			}
			for _, o := range r.src.opens {
				if want := (bson.Timestamp{T: 5000 - uint32(min(1, len(c.have)-1)), I: 1}); o.Time != want || o.Checkpoint != nil {
					t.Errorf("opened at %v, want the time of the earliest other checkpoint, %v", o.Time, want)
				}
			}
			for _, s := range r.src.names {
				if _, err := r.store.Load(t.Context(), r.cfg.key(s)); err != nil {
					t.Errorf("where %q begins is not saved: %v", s, err)
				}
			}
		})
	}
}

// TestStartTimeIsNoConsent: a time neither accepts a refusal, nor does it skip what
// other checkpoints of the pipeline say is not delivered.
func TestStartTimeIsNoConsent(t *testing.T) {
	bubble(t, "beside another name", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.comparing(false, "orders")
		have(t, r.store, "old", "all orders", 5000)
		r.cfg.FirstStart.Time = bson.Timestamp{T: 4000}
		refused := r.refusal(t)
		if want := (bson.Timestamp{T: 5000, I: 1}); refused.Since() != want {
			t.Errorf("a start at %v skips nothing, want %v", refused.Since(), want)
		}
		r.cfg.FirstStart.Accept = refused.Accept
		if err := r.once(t); err != nil || r.src.opens[0].Time.T != 4000 {
			t.Errorf("%v, opened at %+v", err, r.src.opens)
		}
	})
	for at, want := range map[uint32]bool{4000: true, 5000: true, 6000: false} {
		bubble(t, fmt.Sprintf("of one of each after one of all, at %d", at), func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.comparing(true, "a")
			have(t, r.store, "shop", "all a,b", 5000)
			r.cfg.FirstStart.Time = bson.Timestamp{T: at}
			if !want {
				r.cfg.FirstStart.Accept = r.refusal(t).Accept
			}
			if err := r.once(t); err != nil || r.src.opens[0].Time.T != at {
				t.Errorf("%v, opened at %+v", err, r.src.opens)
			}
		})
	}
}

// TestAcceptedOnce: a code accepts what was found, once. It accepts neither the same
// again, after the checkpoint of the accepted start was lost, nor anything else; and
// what it skipped is a gap on record.
func TestAcceptedOnce(t *testing.T) {
	for _, at := range []uint32{0, 5000} {
		bubble(t, fmt.Sprintf("started at %d", at), func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.comparing(false, "orders")
			have(t, r.store, "old", "all orders", 5000)
			r.cfg.FirstStart.Time.T = at
			r.cfg.FirstStart.Accept = r.refusal(t).Accept
			if err := r.once(t); err != nil {
				t.Fatal(err)
			}
			cp, err := r.store.Load(t.Context(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			gaps, err := Gaps(cp)
			if skips := at == 0; err != nil || (len(gaps) == 1) != skips || skips && (gaps[0].From.T != 5000 || gaps[0].Policy != "accept-first-start") {
				t.Errorf("the gaps are %+v, %v", gaps, err)
			}
			seen := map[string]bool{r.cfg.FirstStart.Accept: true}
			for range 3 { // the record of the key is lost, again and again
				if err := state.Forget(t.Context(), r.store, "shop"); err != nil {
					t.Fatal(err)
				}
				refused := r.refusal(t)
				if !errors.Is(refused, ErrCheckpointLost) || seen[refused.Accept] {
					t.Fatalf("refused with %v, a code that was there before: %v", refused, seen[refused.Accept])
				}
				seen[refused.Accept] = true
				r.cfg.FirstStart.Accept = refused.Accept
				time.Sleep(time.Second) // the time of the acceptance is part of its record
				if err := r.once(t); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	bubble(t, "the other checkpoint moves on", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.comparing(false, "orders")
		have(t, r.store, "old", "all orders", 5000)
		r.cfg.FirstStart.Accept = r.refusal(t).Accept
		have(t, r.store, "old", "all orders", 5001)
		r.refusal(t)
	})
}

// A flushableStore is one that somebody empties, as FLUSHALL does.
type flushableStore struct {
	now atomic.Pointer[memstore.Store]
}

func newFlushableStore() *flushableStore {
	s := new(flushableStore)
	s.flush()
	return s
}

func (s *flushableStore) flush() { s.now.Store(memstore.New()) }

func (s *flushableStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	return s.now.Load().Save(ctx, key, cp)
}
func (s *flushableStore) Load(ctx context.Context, key string) (state.Checkpoint, error) {
	return s.now.Load().Load(ctx, key)
}
func (s *flushableStore) Clear(ctx context.Context, key string) error {
	return s.now.Load().Clear(ctx, key)
}
func (s *flushableStore) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	return s.now.Load().Acquire(ctx, key, r)
}
func (s *flushableStore) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	return s.now.Load().Renew(ctx, key, f, ttl)
}
func (s *flushableStore) Release(ctx context.Context, key string, f state.Fence) error {
	return s.now.Load().Release(ctx, key, f)
}
func (s *flushableStore) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.now.Load().SaveFenced(ctx, key, f, cp)
}
func (s *flushableStore) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.now.Load().ClearFenced(ctx, key, f)
}

// TestStoreIsEmptied: a pipeline whose checkpoint is gone from the store says so, and
// leaves what it knew, however it ends: the next start is refused, and may begin
// where the lost checkpoint was.
func TestStoreIsEmptied(t *testing.T) {
	for name, afterwards := range map[string]func(r *rig, s *flushableStore) error{
		"while it streams":      func(r *rig, s *flushableStore) error { return <-r.ended },
		"right before it stops": func(r *rig, s *flushableStore) error { return r.end() },
		"with events in hand": func(r *rig, s *flushableStore) error {
			r.src.add(batch(4, 5))
			return r.end()
		},
	} {
		bubble(t, name, func(t *testing.T) {
			store := newFlushableStore()
			r := newRig(t, newFakeSource(batch(1, 3)))
			r.cfg.Store = store
			r.start()
			<-r.p.Ready()
			r.sink.wait(t, 3)
			time.Sleep(2 * time.Second)
			store.flush()
			err := afterwards(r, store)
			lost := new(LostError)
			if !errors.Is(err, ErrCheckpointLost) || !errors.As(err, &lost) || lost.Checkpoint.Token != at(3).Token {
				t.Fatalf("Run returned %v", err)
			}
			refused := r.refusal(t)
			if !errors.Is(refused, ErrCheckpointLost) || refused.Since() != at(3).ClusterTime || refused.Accept != lost.Accept {
				t.Fatalf("the next start: %v", refused)
			}
			r.cfg.FirstStart.Accept, r.cfg.FirstStart.Time = refused.Accept, refused.Since()
			if err := r.once(t); err != nil || r.src.opens[0].Time != at(3).ClusterTime {
				t.Errorf("%v, opened at %+v", err, r.src.opens)
			}
		})
	}
	bubble(t, "while another stands by", func(t *testing.T) {
		store := newFlushableStore()
		r := newRig(t, newFakeSource(batch(1, 3)))
		r.cfg.Store = store
		r.start()
		<-r.p.Ready()
		r.sink.wait(t, 3)
		time.Sleep(2 * time.Second)
		second := newRig(t, newFakeSource(batch(1, 3)))
		second.cfg.Store, second.cfg.LeaseWait = store, time.Hour
		second.start()
		time.Sleep(3 * time.Second)
		store.flush()
		for who, err := range map[string]error{"the owner": <-r.ended, "the one that stands by": <-second.ended} {
			if !errors.Is(err, ErrCheckpointLost) {
				t.Errorf("%s returned %v", who, err)
			}
		}
		if refused := r.refusal(t); refused.Since().IsZero() {
			t.Errorf("the next start: %v", refused)
		}
	})
}

// TestConsentAtRandom: whatever is in the store, a start without consent begins only
// where no event is skipped that another checkpoint of the same events still owes.
func TestConsentAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	collections := []string{"a", "b", "c"}
	some := func() []string {
		var out []string
		for _, c := range collections {
			if rnd.IntN(2) == 0 {
				out = append(out, c)
			}
		}
		if out == nil {
			return collections[:1]
		}
		return out
	}
	outcomes := map[string]int{}
	for range 300 {
		bubble(t, "case", func(t *testing.T) {
			r := newRig(t, newFakeSource())
			owed := map[string]uint32{} // by collection: the time of the latest checkpoint that has it
			for range rnd.IntN(4) {
				name := []string{"shop", "old"}[rnd.IntN(2)]
				reads, seconds := some(), 5000+rnd.Uint32N(10)
				if rnd.IntN(2) == 0 {
					reads = reads[:1]
					name += "/" + reads[0]
				}
				have(t, r.store, name, []string{"all ", "few "}[rnd.IntN(2)]+strings.Join(reads, ","), seconds)
			}
			for e := range state.List(t.Context(), r.store, "") {
				_, reads, _ := strings.Cut(e.Checkpoint.Fingerprint, " ")
				for _, c := range strings.Split(reads, ",") {
					owed[c] = max(owed[c], e.Checkpoint.ClusterTime.T)
				}
			}
			oneEach, reads := rnd.IntN(2) == 0, some()
			r.comparing(oneEach, reads...)
			before := map[string]bool{}
			for e := range state.List(t.Context(), r.store, "") {
				before[e.Key] = true
			}
			err := r.once(t)
			if errors.As(err, new(*FirstStartError)) {
				outcomes["refused"]++
				return
			}
			if err != nil && !errors.Is(err, ErrHistoryLost) { // of a checkpoint that the fake doesn't have
				t.Fatal(err)
			}
			for _, o := range r.src.opens {
				if o.Checkpoint != nil {
					continue
				}
				outcomes[map[bool]string{true: "now", false: "seeded"}[o.Time.IsZero()]]++
				for _, c := range reads {
					if key := r.cfg.key(c); oneEach && before[key] {
						continue // it resumes from its own
					}
					if len(r.src.opens) == 1 && owed[c] > 0 && (o.Time.IsZero() || o.Time.T > owed[c]) {
						t.Errorf("a stream of %v begins at %v, and %s is delivered up to %d only", reads, o.Time, c, owed[c])
					}
				}
			}
		})
	}
	for _, o := range []string{"refused", "now", "seeded"} {
		if outcomes[o] == 0 {
			t.Errorf("no case ended with %q: %v", o, outcomes)
		}
	}
}

// reportsHistory is a source whose server has events since a time.
type reportsHistory struct {
	*fakeSource
	oldest bson.Timestamp
}

func (s reportsHistory) History(context.Context) (History, error) {
	return History{Oldest: s.oldest}, nil
}

// TestHistoryLostHasTheFacts: the error has the time of the checkpoint, when it was
// saved, and the oldest time that the server still has.
func TestHistoryLostHasTheFacts(t *testing.T) {
	bubble(t, "of a checkpoint, and of a start time", func(t *testing.T) {
		r := newRig(t, newFakeSource())
		r.cfg.Source = reportsHistory{r.src, bson.Timestamp{T: 9000, I: 2}}
		have(t, r.store, "shop", "", 5000)
		for _, want := range []HistoryLostError{
			{Key: "shop", ClusterTime: bson.Timestamp{T: 5000, I: 1}, SavedAt: time.Now().UTC()},
			{Key: "shop", ClusterTime: bson.Timestamp{T: 7000}},
		} {
			r.src.openErrs = []error{fmt.Errorf("%w: said the server", ErrHistoryLost)}
			err := r.once(t)
			got := new(HistoryLostError)
			if !errors.As(err, &got) || !errors.Is(err, ErrHistoryLost) {
				t.Fatalf("Run returned %v", err)
			}
			if got.Key != want.Key || got.ClusterTime != want.ClusterTime || !got.SavedAt.Equal(want.SavedAt) || got.Oldest.T != 9000 ||
				!strings.Contains(err.Error(), "said the server") || !strings.Contains(err.Error(), "the server has events since 1970-01-01T02:30:00Z") {
				t.Errorf("got %+v: %v", got, err)
			}
			if err := state.Forget(t.Context(), r.store, "shop"); err != nil {
				t.Fatal(err)
			}
			r.cfg.FirstStart.Time = bson.Timestamp{T: 7000}
		}
	})
}
