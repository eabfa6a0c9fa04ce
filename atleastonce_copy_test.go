package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// TestCopyIntoAMirror: after a copy that was killed many times, into a destination that takes
// events at least once, with lanes and without, a mirror has every document as the source has it:
// what was deleted meanwhile too.
func TestCopyIntoAMirror(t *testing.T) {
	rounds := campaign.Size(t, "RIGATONI_COPY_ROUNDS", 2000, 150)
	seed := campaign.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for n := range rounds {
			m := newMirrored(rng)
			if err := m.run(t.Context()); err != nil {
				t.Fatalf("round %d: %v", n, err)
			}
		}
	})
}

// A mirrored is a collection that is copied into a mirror while it changes.
type mirrored struct {
	rng    *rand.Rand
	source *rigatonitest.Source
	store  *memstore.Store
	truth  map[int]int
	n      int

	mu     sync.Mutex
	mirror map[int]int
	steps  int // until the process dies
	dead   bool
	stop   context.CancelFunc
}

func newMirrored(rng *rand.Rand) *mirrored {
	m := &mirrored{rng: rng, source: rigatonitest.NewSource(), store: memstore.New(), truth: map[int]int{}, mirror: map[int]int{}}
	m.source.SnapshotChunk = 1 + rng.IntN(4)
	for id := range 20 {
		m.source.Populate(copyNS, doc(id, 0))
		m.truth[id] = 0
	}
	return m
}

// change appends some changes.
func (m *mirrored) change() {
	for range m.rng.IntN(8) {
		m.n++
		id := m.rng.IntN(25)
		_, exists := m.truth[id]
		switch {
		case !exists:
			m.truth[id] = m.n
			m.source.Append(rigatonitest.Insert(copyNS, doc(id, m.n)))
		case m.rng.IntN(3) == 0:
			delete(m.truth, id)
			m.source.Append(rigatonitest.Delete(copyNS, id))
		default:
			m.truth[id] = m.n
			m.source.Append(rigatonitest.Replace(copyNS, doc(id, m.n)))
		}
	}
}

// step is a step of the process: nothing that it does after its last one has an effect.
func (m *mirrored) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steps--; m.steps == 0 {
		m.dead = true
		m.stop()
	}
	if m.dead {
		return errDead
	}
	return nil
}

func (m *mirrored) take(_ context.Context, ev rigatoni.Event) error {
	if err := m.step(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id, _ := ev.DocumentKey().Lookup("_id").AsInt64OK()
	if ev.FullDocument() == nil {
		delete(m.mirror, int(id))
		return nil
	}
	n, _ := ev.FullDocument().Lookup("n").AsInt64OK()
	m.mirror[int(id)] = int(n)
	return nil
}

// run has a few processes die, and the last one live.
func (m *mirrored) run(ctx context.Context) error {
	for range 1 + m.rng.IntN(6) {
		m.change()
		if err := m.live(ctx, 1+m.rng.IntN(30)); err != nil && !errors.Is(err, errDead) && !errors.Is(err, rigatoni.ErrUndelivered) && !errors.Is(err, rigatoni.ErrUnsaved) {
			return err
		}
	}
	m.change()
	if err := m.live(ctx, -1); err != nil {
		return err
	}
	cp, err := m.store.Load(ctx, "copy")
	if err != nil {
		return err
	}
	if doc := cp.Extra[rigatoni.ExtraSnapshot]; len(doc) > 0 {
		return fmt.Errorf("the copy has not ended: %s", doc)
	}
	if !maps.Equal(m.truth, m.mirror) {
		return fmt.Errorf("the mirror has %v, want %v", m.mirror, m.truth)
	}
	return nil
}

// live runs a process for a number of steps, or for a minute.
func (m *mirrored) live(ctx context.Context, steps int) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	m.mu.Lock()
	m.steps, m.dead, m.stop = steps, false, stop
	m.mu.Unlock()
	return rigatoni.Run(ctx, rigatoni.Config{
		Name: "copy", Source: m.source, Destination: rigatoni.Func(m.take), Store: mortalStore{lasting{m.store}, m}, LeaseTTL: -1,
		Snapshot: "initial", Concurrency: []int{1, 4}[m.rng.IntN(2)], SaveInterval: []time.Duration{-1, time.Millisecond, time.Second}[m.rng.IntN(3)],
		MaxBatchEvents: 1 + m.rng.IntN(5), GraceTime: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
}

// A mortalStore is a store as the process sees it.
type mortalStore struct {
	lasting
	m *mirrored
}

func (s mortalStore) Save(ctx context.Context, key string, cp state.Checkpoint) error {
	if err := s.m.step(); err != nil {
		return err
	}
	return s.lasting.Save(ctx, key, cp)
}
