package snapcheck

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// A trial is a load, and pipelines that read it.
type trial struct {
	server *testserver.Server
	load   Load
	lives  Lives
	rules  Rules
	source changestream.Options
	config rigatoni.Config
	// atLeast is how long the load lasts.
	atLeast time.Duration
	// script, if it is not nil, runs to its end beside the copy.
	script func(ctx context.Context) error
	// processes, if it is not nil, is used instead of lives.
	processes *processes
	// meanwhile, if it is not nil, runs beside it.
	meanwhile func(ctx context.Context)
}

// fiveCollections are a large one, smaller ones, one that is all but empty, and one
// with a collation.
func fiveCollections(docs int) []Collection {
	return []Collection{
		{Name: "large", Docs: docs, Size: 8},
		{Name: "mixed", Docs: docs / 4, Size: 5, Large: 10, LargeSize: 15},
		{Name: "tiny", Docs: 3, Size: 5},
		{Name: "empty", Size: 5},
		{Name: "collated", Docs: docs / 8, Size: 6, Calm: true, Collation: &options.Collation{Locale: "en", Strength: 1, NumericOrdering: true}},
	}
}

func newTrial(t *testing.T, s *testserver.Server, docs int) *trial {
	t.Helper()
	seed := campaign.Seed(t)
	r := &trial{
		server: s,
		load: Load{
			DB: s.DB, Collections: fiveCollections(docs), Seed: seed, Writers: 4, Pause: time.Millisecond,
			Upheaval: 400 * time.Millisecond, Away: "away",
		},
		lives:   Lives{Crashes: 4, Steps: docs, Slow: 1500, Recorder: NewRecorder(), Seed: seed},
		rules:   Rules{Loose: map[string]bool{"collated": true}},
		source:  changestream.Options{Database: s.DB.Name()},
		config:  rigatoni.Config{Name: "check", SaveInterval: 50 * time.Millisecond, IdleInterval: 100 * time.Millisecond},
		atLeast: 2 * time.Second,
	}
	return r
}

// run runs the trial, and returns what was wrong.
func (r *trial) run(t *testing.T) *Faults {
	t.Helper()
	limit := 3 * time.Minute
	if campaign.Full(t) {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	line, err := NewTimeline(ctx, r.server.Client, r.server.DB.Name())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := line.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := r.load.Fill(ctx); err != nil {
		t.Fatal(err)
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	last := make(chan Stamp, 1)
	wg.Go(func() { last <- r.write(writing, ctx) })
	var scripted atomic.Bool
	wg.Go(func() {
		defer scripted.Store(true)
		if r.script == nil {
			return
		}
		if err := r.script(ctx); err != nil {
			t.Error(err)
		}
	})
	r.lives.Config = func() rigatoni.Config { return r.pipeline(t) }
	end, began := Stamp(0), time.Now()
	done := func(copied bool) bool {
		if end == 0 && time.Since(began) > r.atLeast && copied && scripted.Load() {
			stop()
			end = <-last
		}
		return end != 0 && r.lives.Has(end)
	}
	if r.processes != nil {
		err = r.processes.run(ctx, t, done)
	} else {
		err = r.lives.Run(ctx, done)
	}
	t.Log(&r.load)
	all, reads := r.lives.Recorder.Deliveries()
	t.Logf("%d events delivered, %d of them copies, in %d runs", all, reads, r.lives.Recorder.Runs())
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Await(ctx, end); err != nil {
		t.Fatal(err)
	}
	if err := r.load.Verify(ctx, line); err != nil {
		t.Fatal(err)
	}
	return Judge(line, r.lives.Recorder, r.rules)
}

// write writes until writing ends, and then the last document.
func (r *trial) write(writing, ctx context.Context) Stamp {
	var wg sync.WaitGroup
	if r.meanwhile != nil {
		wg.Go(func() { r.meanwhile(writing) })
	}
	r.load.Run(writing)
	<-writing.Done()
	wg.Wait()
	s, err := r.load.End(ctx)
	if err != nil {
		return 0
	}
	return s
}

func (r *trial) pipeline(t *testing.T) rigatoni.Config {
	t.Helper()
	cfg := r.config
	cfg.Logger = slog.New(slog.DiscardHandler)
	if os.Getenv("RIGATONI_SNAPCHECK_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	opts := r.source
	opts.Logger = cfg.Logger
	src, err := changestream.New(r.server.Client, &opts)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Source = src
	return cfg
}

// TestStreamAlone: the checker finds nothing in a pipeline that copies nothing, from
// before the first write on.
func TestStreamAlone(t *testing.T) {
	parallel(t)
	for _, once := range []bool{false, true} {
		t.Run(sinkName(once), func(t *testing.T) {
			r := newTrial(t, testserver.Mongod(t), 0)
			r.lives.Once = once
			r.lives.Steps = 1000
			r.config.FirstStart.Time = r.server.OplogTime(t, -1)
			if f := r.run(t); !f.None() {
				t.Error(f)
			}
		})
	}
}

func sinkName(once bool) string {
	if once {
		return "transactional"
	}
	return "function"
}

// TestStreamAloneAndKills: nor where its processes are killed.
func TestStreamAloneAndKills(t *testing.T) {
	parallel(t)
	r := newTrial(t, testserver.Mongod(t), 0)
	r.killed(t, 4, time.Second)
	r.config.FirstStart.Time = r.server.OplogTime(t, -1)
	if f := r.run(t); !f.None() {
		t.Error(f)
	}
}

// killed has the pipelines run in processes of their own, which are killed.
func (r *trial) killed(t *testing.T, kills int, within time.Duration) {
	t.Helper()
	r.processes = &processes{trial: r, kills: kills, within: within, dir: t.TempDir(), rng: rand.New(rand.NewPCG(r.load.Seed, 1000))}
}

// parallel runs short tests beside others: they mostly wait.
func parallel(t *testing.T) {
	t.Helper()
	if !campaign.Full(t) {
		t.Parallel()
	}
}
