package rigatoni

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// itemsOf are events from and to, as a dispatcher is given them.
func itemsOf(from, to int) (all []item) {
	for n := from; n <= to; n++ {
		all = append(all, item{event: event(n), number: uint64(n)})
	}
	return all
}

// taken is what a lane is given now; nil if it has to wait, or there is nothing more.
func taken(t *testing.T, d *dispatcher) (assignment, bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer d.watch(ctx)()
	type result struct {
		a  assignment
		ok bool
	}
	got := make(chan result, 1)
	go func() {
		a, ok := d.next(ctx)
		got <- result{a, ok}
	}()
	synctest.Wait()
	waits := len(got) == 0
	cancel()
	r := <-got
	return r.a, waits
}

func TestDispatcher(t *testing.T) {
	patient := batcher{maxEvents: 10, maxBytes: 1 << 20, maxAge: time.Hour, lanes: 1}
	bubble(t, "drain waits for no age, and until what was taken is delivered", func(t *testing.T) {
		d := newDispatcher(patient)
		d.add(itemsOf(1, 3), nil)
		if _, waits := taken(t, d); !waits {
			t.Error("a batch was cut before its age")
		}
		drained := make(chan error, 1)
		go func() { drained <- d.drain(t.Context()) }()
		synctest.Wait()
		a, _ := taken(t, d)
		synctest.Wait()
		if len(a.items) != 3 || len(drained) > 0 {
			t.Errorf("took %d events, drained %d", len(a.items), len(drained))
		}
		d.give(a)
		if err := <-drained; err != nil || len(d.queues) > 0 {
			t.Errorf("drain returned %v, with %d queues", err, len(d.queues))
		}
		d.add(itemsOf(4, 4), nil)
		if _, waits := taken(t, d); !waits {
			t.Error("after drain, a batch was cut before its age")
		}
	})
	bubble(t, "drain ends with its context", func(t *testing.T) {
		d := newDispatcher(patient)
		d.add(itemsOf(1, 3), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer d.watch(ctx)()
		drained := make(chan error, 1)
		go func() { drained <- d.drain(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-drained; err == nil {
			t.Error("drain returned nil")
		}
	})
	bubble(t, "after close, a lane waits for a document that another has, and leaves if there is none", func(t *testing.T) {
		d := newDispatcher(batcher{maxEvents: 10, maxBytes: 1 << 20, lanes: 2, single: true})
		d.add(itemsOf(1, 2), nil)
		first, _ := taken(t, d)
		d.close()
		if _, waits := taken(t, d); !waits {
			t.Error("the second lane left")
		}
		d.give(first)
		second, _ := taken(t, d)
		if len(second.items) != 1 || second.items[0].number != 2 {
			t.Errorf("then took %v", second.items)
		}
		if _, waits := taken(t, d); waits {
			t.Error("a lane waits for nothing")
		}
	})
	bubble(t, "careful: one by one, at once, and then as before", func(t *testing.T) {
		b := patient
		b.careful = 2
		d := newDispatcher(b)
		d.add(itemsOf(1, 5), nil)
		for range 2 {
			a, waits := taken(t, d)
			if waits || len(a.items) != 1 {
				t.Fatalf("took %d events, waits %v", len(a.items), waits)
			}
			d.give(a)
		}
		if _, waits := taken(t, d); !waits {
			t.Error("a batch was cut before its age")
		}
		d.close()
		if a, _ := taken(t, d); len(a.items) != 3 {
			t.Errorf("took %d events", len(a.items))
		}
	})
}

func TestBatchAge(t *testing.T) {
	size := len(event(1).Raw)
	for name, c := range map[string]struct {
		change func(*Config)
		want   map[time.Duration]int // delivered until then
	}{
		// Events come at 0 s (1), 2 s (2), 4 s (3, 4, 5), and 20 s (6).
		"of the first event":  {func(c *Config) {}, map[time.Duration]int{4900: 0, 5100: 5, 24900: 5, 25100: 6}},
		"or a number is full": {func(c *Config) { c.MaxBatchEvents = 3 }, map[time.Duration]int{3900: 0, 4100: 3, 8900: 3, 9100: 5}},
		"or bytes are":        {func(c *Config) { c.MaxBatchBytes = 3 * size }, map[time.Duration]int{3900: 0, 4100: 3, 8900: 3, 9100: 5, 24900: 5, 25100: 6}},
	} {
		bubble(t, "the age "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource())
			r.cfg.MaxBatchAge = 5 * time.Second
			c.change(&r.cfg)
			r.start()
			<-r.p.Ready()
			for at, chunks := range map[time.Duration]chunk{0: batch(1, 1), 2: batch(2, 2), 4: batch(3, 5), 20: batch(6, 6)} {
				time.AfterFunc(at*time.Second, func() { r.src.add(chunks) })
			}
			var wrong []any
			for at, n := range c.want {
				time.AfterFunc(at*time.Millisecond, func() {
					if got := len(r.sink.delivered()); got != n {
						wrong = append(wrong, at*time.Millisecond, got)
					}
				})
			}
			time.Sleep(time.Minute)
			if len(wrong) > 0 {
				t.Errorf("delivered %v", wrong)
			}
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestBatchContents(t *testing.T) {
	for lanes, end := range map[int]Position{1: at(3), 2: {}} {
		bubble(t, "its end and its size", func(t *testing.T) {
			evs := []Event{event(1), change(2, "drop", nil), event(3)}
			for i := range evs {
				evs[i] = change(i+1, "insert", 7) // of one document
			}
			if lanes == 1 {
				evs[1] = change(2, "drop", nil) // no barrier where there is one lane
			}
			r := newRig(t, newFakeSource(chunk{events: evs, end: at(3)}))
			r.cfg.Concurrency = lanes
			size := len(evs[0].Raw) + len(evs[1].Raw) + len(evs[2].Raw)
			total := 0
			r.cfg.Destination = opensTo{concurrentSink{destFunc(func(_ context.Context, b *Batch) error {
				total += b.Bytes
				if lanes == 1 && len(b.Events) != 3 || b.End.Token != end.Token {
					t.Errorf("%d lanes: %d events, up to %+v", lanes, len(b.Events), b.End)
				}
				r.sink.record(b.Events)
				return nil
			})}}
			r.start()
			r.sink.wait(t, 3)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if total != size {
				t.Errorf("%d bytes, want %d", total, size)
			}
		})
	}
}

// Whatever waits, of however many documents: each event is taken once, those of a document
// in order and by one lane at a time, and no batch is larger than the bounds. What a lane
// has is its own: what is added later and what other lanes return changes nothing of it.
func TestDispatcherAgainstAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	type held struct {
		assignment
		as []item // when it was taken
	}
	for range 300 {
		lanes := 1 + r.IntN(4)
		d := newDispatcher(batcher{maxEvents: 1 + r.IntN(8), maxBytes: 100 + r.IntN(2000), lanes: lanes})
		var keys func(Event) uint64
		if lanes > 1 {
			documents := uint64(1 + r.IntN(6))
			keys = func(ev Event) uint64 { return uint64(number(ev)) % documents }
		}
		key := func(it item) uint64 {
			if keys == nil {
				return 0
			}
			return keys(it.event)
		}
		var (
			out          []held
			last         = map[uint64]uint64{} // the last number of each key that was taken
			busy         = map[uint64]bool{}
			added, taken = 0, 0
		)
		check := func(h held) {
			for i, it := range h.items {
				if it.number != h.as[i].number || number(it.event) != int(it.number) {
					t.Fatalf("event %d of a batch became %d", h.as[i].number, it.number)
				}
			}
		}
		for step := 0; step < 80 || taken < added || len(out) > 0; step++ {
			switch {
			case step < 80 && r.IntN(3) == 0:
				n := r.IntN(6)
				items := itemsOf(added+1, added+n)
				kept := append(make([]item, 0, n+3), items...) // with room, as after a transform
				d.add(kept, keys)
				added += n
			case len(out) > 0 && (len(out) == lanes || len(d.ready) == 0 || r.IntN(2) == 0):
				i := r.IntN(len(out))
				check(out[i])
				for _, it := range out[i].items {
					delete(busy, key(it))
				}
				d.give(out[i].assignment)
				out = slices.Delete(out, i, i+1)
			case len(d.ready) > 0:
				a := d.cut()
				bytes := 0
				mine := map[uint64]bool{}
				for _, it := range a.items {
					k := key(it)
					if busy[k] || it.number <= last[k] {
						t.Fatalf("event %d of the key %d is taken after %d, by another lane: %v", it.number, k, last[k], busy[k])
					}
					last[k], mine[k] = it.number, true
					bytes += len(it.event.Raw)
				}
				for k := range mine {
					busy[k] = true
				}
				if n := len(a.items); n == 0 || n > d.batcher.maxEvents || n > 1 && bytes > d.batcher.maxBytes {
					t.Fatalf("a batch of %d events, %d bytes; want at most %d, %d", n, bytes, d.batcher.maxEvents, d.batcher.maxBytes)
				}
				taken += len(a.items)
				out = append(out, held{a, slices.Clone(a.items)})
			}
			for _, h := range out {
				check(h)
			}
		}
		if taken != added || d.waiting != 0 || d.bytes != 0 || d.taken != 0 || len(d.queues) != 0 {
			t.Fatalf("%d events of %d were taken; %d wait, with %d bytes, %d are under way, in %d queues", taken, added, d.waiting, d.bytes, d.taken, len(d.queues))
		}
	}
}
