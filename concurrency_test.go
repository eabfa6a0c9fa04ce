package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// change is the n-th event of a stream, about a document; without an id, about none.
func change(n int, op string, id any) Event {
	doc := bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: fmt.Sprintf("opaque-%08d", n)}}},
		{Key: "operationType", Value: op},
		{Key: "clusterTime", Value: bson.Timestamp{T: 1000, I: uint32(n)}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "orders"}}},
	}
	if id != nil {
		doc = append(doc, bson.E{Key: "documentKey", Value: bson.D{{Key: "region", Value: n % 3}, {Key: "_id", Value: id}}})
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return Event{Raw: raw}
}

func TestConcurrency(t *testing.T) {
	bubble(t, "100 events of 100 documents, 20 ms each, in 16 lanes", func(t *testing.T) {
		for _, c := range []struct {
			lanes int
			most  time.Duration
		}{{1, 2000 * time.Millisecond}, {16, 150 * time.Millisecond}, {100, 25 * time.Millisecond}} {
			r := newRig(t, newFakeSource())
			r.cfg.Concurrency = c.lanes
			r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
				time.Sleep(20 * time.Millisecond)
				r.sink.record([]Event{ev})
				return nil
			})
			r.start()
			if err := r.p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.src.add(batch(1, 100))
			begin := time.Now()
			r.sink.wait(t, 100)
			if took := time.Since(begin); took > c.most {
				t.Errorf("%d lanes took %v, want %v", c.lanes, took, c.most)
			}
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
		}
	})
	bubble(t, "the checkpoint is the end of the unbroken run", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 100)))
		r.cfg.Concurrency = 4
		hold := make(chan struct{})
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			if number(ev) == 8 {
				<-hold
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 99)
		time.Sleep(time.Minute)
		r.wantSaved(at(7))
		if s := r.p.Status()[0]; s.InFlight != 93 || s.Position != time.Unix(1000, 0) {
			t.Errorf("the status is %+v", s)
		}
		close(hold)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		r.wantSaved(at(100))
	})
	bubble(t, "a document that fails holds up no other", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 100)))
		r.cfg.Concurrency = 2
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			if number(ev) == 1 {
				return errors.New("not now")
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 99)
		r.wantSaved(r.src.origin)
		if err := r.end(); !errors.Is(err, ErrUndelivered) || !contains(err, "not delivered: 1; 100 events are redelivered") {
			t.Fatal(err)
		}
	})
	for _, op := range []string{"drop", "rename", "dropDatabase", "invalidate", "createIndexes"} {
		bubble(t, op+" is a barrier", func(t *testing.T) {
			var evs []Event
			for n := 1; n <= 9; n++ {
				evs = append(evs, change(n, "insert", n))
			}
			evs[4] = change(5, op, nil)
			r := newRig(t, newFakeSource(chunk{events: evs, end: at(9)}))
			r.cfg.Concurrency = 8
			var mu sync.Mutex
			running := 0
			r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
				mu.Lock()
				running++
				alone, before := running == 1, len(r.sink.delivered())
				mu.Unlock()
				if number(ev) == 5 && (!alone || before != 4) {
					t.Errorf("the %s was delivered after %d events, alone %v", op, before, alone)
				}
				if number(ev) > 5 && before < 5 {
					t.Errorf("event %d was delivered before the %s", number(ev), op)
				}
				time.Sleep(time.Duration(10-number(ev)) * time.Millisecond)
				r.sink.record([]Event{ev})
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			})
			r.start()
			r.sink.wait(t, 9)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
		})
	}
	for name, c := range map[string]struct {
		dest Destination
		want string
	}{
		"a sink that isn't concurrent": {destFunc(func(context.Context, *Batch) error { return nil }), "is not rigatoni.Concurrent"},
		"a Syncer":                     {syncSink{newSink()}, "in the order of the stream"},
	} {
		bubble(t, "more than one lane is refused for "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 1)))
			r.cfg.Destination, r.cfg.Concurrency = c.dest, 2
			r.start()
			if err := <-r.ended; err == nil || !contains(err, "Config.Concurrency is 2", c.want) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// Random streams, sinks that fail, and stops: each document's events stay in order,
// nothing is skipped, and the checkpoint never covers what is not delivered.
func TestConcurrencyRandom(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := range 100 {
		bubble(t, fmt.Sprint(i), func(t *testing.T) { randomRun(t, rand.New(rand.NewPCG(rng.Uint64(), 1))) })
	}
}

func randomRun(t *testing.T, rng *rand.Rand) {
	const events = 300
	docs := 1 + rng.IntN(40)
	var evs []Event
	for n := 1; n <= events; n++ {
		if rng.IntN(50) == 0 {
			evs = append(evs, change(n, "drop", nil))
		} else {
			evs = append(evs, change(n, "update", rng.IntN(docs)))
		}
	}
	src := newFakeSource()
	for from := 0; from < events; {
		to := min(events, from+1+rng.IntN(60))
		src.add(chunk{events: evs[from:to], end: at(to)}, idle(to))
		from = to
	}
	r := newRig(t, src)
	r.cfg.Concurrency = 1 + rng.IntN(8)
	r.cfg.MaxInFlightBytes = (1 + rng.IntN(200)) * len(evs[0].Raw)
	r.cfg.MaxBatchEvents = 1 + rng.IntN(30)
	r.cfg.SaveInterval = []time.Duration{-1, time.Millisecond, time.Second}[rng.IntN(3)]
	r.cfg.MaxBatchAge = []time.Duration{0, 20 * time.Millisecond}[rng.IntN(2)]
	var mu sync.Mutex
	last := map[string]int{} // of a document, the last event delivered
	seen := map[int]bool{}
	whole := rng.IntN(2) == 0
	random := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
	handle := func(_ context.Context, ev Event) error {
		time.Sleep(time.Duration(random(5)) * time.Millisecond)
		if random(20) == 0 {
			return errors.New("not now")
		}
		mu.Lock()
		defer mu.Unlock()
		n, key := number(ev), "all"
		if r.cfg.Concurrency > 1 && ev.DocumentKey() != nil {
			key = ev.DocumentKey().Lookup("_id").String()
		}
		if n < last[key] && !seen[n] {
			t.Errorf("event %d of %s came after event %d", n, key, last[key])
		}
		last[key], seen[n] = max(n, last[key]), true
		return nil
	}
	r.cfg.Destination = Func(handle)
	if whole { // a sink of batches, without progress
		r.cfg.Destination = opensTo{concurrentSink{destFunc(func(ctx context.Context, b *Batch) error {
			for i, ev := range b.Events {
				if err := handle(ctx, ev); err != nil {
					if random(2) == 0 {
						return Partial(i, err)
					}
					return err
				}
			}
			return nil
		})}}
	}
	for life := 0; ; life++ {
		r.start()
		if err := r.p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random(3000)) * time.Millisecond)
		mu.Lock()
		complete := len(seen) == events
		mu.Unlock()
		if err := r.end(); err != nil && !errors.Is(err, ErrUndelivered) {
			t.Fatal(err)
		}
		for n := 1; n <= r.savedNumber(); n++ {
			if !seen[n] {
				t.Fatalf("the checkpoint covers event %d, which was not delivered", n)
			}
		}
		if complete {
			break
		}
		if life > 10_000 {
			t.Fatalf("only %d events were delivered", len(seen))
		}
	}
	synctest.Wait()
}

type concurrentSink struct{ Sink }

func (concurrentSink) Concurrent() bool { return true }

func TestKeyOf(t *testing.T) {
	key := keyOf(maphash.MakeSeed())
	dec := func(s string) bson.Decimal128 {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	same := [][]any{
		{int32(1), int64(1), 1.0, dec("1"), dec("1.00")},
		{0.0, int32(0), dec("-0")},
		{math.NaN(), math.Float64frombits(0x7ff8000000000007), dec("NaN")},
		{bson.D{{Key: "a", Value: int32(1)}}, bson.D{{Key: "a", Value: 1.0}}},
		{"1"}, {"a"}, {bson.D{{Key: "a", Value: "1"}}}, {bson.A{1}}, {true}, {bson.NewObjectID()},
	}
	seen := map[uint64]int{}
	for i, group := range same {
		for n, id := range group {
			k := key(change(n, "insert", id))
			if j, ok := seen[k]; ok && j != i {
				t.Errorf("%v has the key of group %d", id, j)
			}
			if n > 0 && seen[k] != i {
				t.Errorf("%v and %v have different keys", group[0], id)
			}
			seen[k] = i
		}
	}
	// Of a transformed event, it is the original's.
	ev := change(1, "insert", 7)
	if key(ev) != key(ev.With(change(2, "insert", 8).Raw)) {
		t.Error("a transform changes the lane")
	}
	if isBarrier(ev.With(change(2, "insert", nil).Raw)) || !isBarrier(change(1, "drop", nil).With(ev.Raw)) {
		t.Error("a transform makes a barrier, or takes one away")
	}
	key(Event{Raw: bson.Raw{5, 0, 0, 0, 0}}) // an event without fields doesn't panic
}

func TestBatcher(t *testing.T) {
	for _, c := range []struct {
		b       batcher
		waiting int
		want    int
	}{
		{batcher{maxEvents: 10, lanes: 1}, 3, 10},
		{batcher{maxEvents: 10, lanes: 4}, 3, 1},
		{batcher{maxEvents: 10, lanes: 4}, 64, 4},
		{batcher{maxEvents: 10, lanes: 4}, 6400, 10},
		{batcher{maxEvents: 10, lanes: 4, single: true}, 6400, 1},
		{batcher{maxEvents: 10, lanes: 1, careful: 2}, 6400, 1},
	} {
		if got := c.b.limit(c.waiting); got != c.want {
			t.Errorf("%+v: of %d events a batch takes %d, want %d", c.b, c.waiting, got, c.want)
		}
	}
}

func contains(err error, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(err.Error(), p) })
}
