package rigatoni

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"
)

// Whatever the chunks are that events come in, and in whatever order they are delivered:
// the mark is the end of the longest unbroken run, and what is in flight is above it.
func TestTrackerAgainstAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		b := newBudget(1 << 30)
		tr := newTracker(between(0), b)
		var (
			open  []item          // read and not delivered
			bytes = map[int]int{} // of each event
			ends  = map[int]Position{}
			added int
		)
		for range 100 {
			if r.IntN(3) == 0 {
				n := r.IntN(5)
				evs := events(added+1, added+n)
				end := Position{}
				if r.IntN(2) == 0 {
					end = between(added + n)
				}
				number := tr.add(evs, end)
				for i := range evs {
					open = append(open, item{event: evs[i], number: number + uint64(i)})
					bytes[added+i+1] = len(evs[i].Raw)
					b.used += len(evs[i].Raw)
				}
				clear(evs) // as a source may, that uses its memory again
				added += n
				if !end.Token.IsZero() {
					ends[added] = end
				}
			} else if len(open) > 0 {
				r.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
				if r.IntN(2) == 0 {
					slices.SortFunc(open, func(a, b item) int { return int(a.number) - int(b.number) })
				}
				n := 1 + r.IntN(min(4, len(open)))
				tr.done(open[:n])
				open = open[n:]
			}
			low, undelivered, flying := added, len(open), 0
			for _, it := range open {
				low = min(low, int(it.number)-1)
			}
			for k := low + 1; k <= added; k++ {
				flying += bytes[k]
			}
			m := tr.mark()
			if int(m.events) != low || tr.inFlight() != added-low {
				t.Fatalf("the mark is after %d events, with %d in flight; want %d and %d", m.events, tr.inFlight(), low, added-low)
			}
			if n, all := tr.undelivered(); n != undelivered || all != added-low {
				t.Fatalf("%d undelivered of %d, want %d of %d", n, all, undelivered, added-low)
			}
			if b.used != flying {
				t.Fatalf("%d bytes in flight, want %d", b.used, flying)
			}
			pos, err := m.position()
			want, ok := ends[low]
			switch {
			case err != nil:
				t.Fatal(err)
			case ok && pos != want:
				t.Fatalf("after %d events the position is not that which the stream gave", low)
			case !ok && low > 0:
				if ev, err := PositionAfter(event(low)); err != nil || pos != ev {
					t.Fatalf("after %d events the position is not that of the last one: %v", low, err)
				}
			}
		}
	}
}

// Events below the mark are freed, and not only with all that were read with them: their
// bytes are given back to the budget by then.
func TestTrackerFreesWhatIsDelivered(t *testing.T) {
	tr := newTracker(between(0), newBudget(1<<30))
	var memory []weak.Pointer[byte]
	var items []item
	func() {
		evs := events(1, 3)
		number := tr.add(evs, Position{})
		for i, ev := range evs {
			memory = append(memory, weak.Make(&ev.Raw[0]))
			items = append(items, item{event: ev, number: number + uint64(i)})
		}
	}()
	for i := range items {
		tr.done(items[i : i+1])
		items[i].event = Event{}
		runtime.GC()
		for k, m := range memory {
			if freed := m.Value() == nil; freed != (k < i) { // the mark needs the last one
				t.Errorf("after %d events: freed is %v of event %d", i+1, freed, k+1)
			}
		}
	}
	runtime.KeepAlive(tr)
}
