package snapcheck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Lives are pipelines that follow one another. Each but the last crashes, at a random
// step: before or after an event is delivered, or the checkpoint is saved. Nothing that
// a pipeline does after its crash takes effect.
type Lives struct {
	// Config is that of each pipeline, without a destination and a store.
	Config func() rigatoni.Config
	// Crashes is how many pipelines crash, each within Steps.
	Crashes, Steps int
	// Restart: a pipeline that ends by itself is followed by another, as a service manager
	// does it; Ended is called with its error.
	Restart bool
	Ended   func(err error)
	// Quiet: nothing is written, so that pipelines crash at the end of the copy at the
	// latest.
	Quiet bool
	// Slow is about how many events are delivered in a second; 0: as fast as may be.
	Slow int
	// Once: the destination is transactional, a rigatonitest.Database.
	Once     bool
	Recorder *Recorder
	Seed     uint64

	// Began, if it is not nil, is called with each pipeline that has started.
	Began func(p *rigatoni.Pipeline)

	db  *rigatonitest.Database // of the checkpoints, in any case: it is not volatile
	rng *rand.Rand
}

var errCrashed = errors.New("the process has crashed")

// Run runs pipelines until the last one is done, as done reports, which is called
// repeatedly. Its argument reports whether the copy has ended.
func (l *Lives) Run(ctx context.Context, done func(copied bool) bool) error {
	l.db, l.rng = rigatonitest.NewDatabase(), rand.New(rand.NewPCG(l.Seed, 1))
	for n := range l.Crashes + 1 {
		steps := 0
		if n < l.Crashes {
			steps = 1 + l.rng.IntN(l.Steps)
		}
		if err := l.again(ctx, steps, done); err != nil {
			return fmt.Errorf("pipeline %d of %d: %w", n+1, l.Crashes+1, err)
		}
		if err := l.bury(ctx); err != nil {
			return err
		}
	}
	if l.Once {
		run := l.Recorder.Begin(Run{Resumed: l.Crashes > 0})
		for _, ev := range l.db.Events() {
			l.Recorder.Record(run, ev)
		}
	}
	return nil
}

// again runs one pipeline, and where Restart says so, others in its place.
func (l *Lives) again(ctx context.Context, steps int, done func(copied bool) bool) error {
	for {
		err := l.live(ctx, steps, done)
		if err == nil || !l.Restart || ctx.Err() != nil {
			return err
		}
		l.Ended(err)
		if err := l.bury(ctx); err != nil {
			return err
		}
	}
}

// Has reports whether a write was delivered.
func (l *Lives) Has(s Stamp) bool {
	if !l.Once {
		return l.Recorder.Has(s)
	}
	for _, ev := range slices.Backward(l.db.Events()) {
		if stampIn(ev.FullDocument()) == s {
			return true
		}
	}
	return false
}

// copied reports whether there is a checkpoint, and no copy in it that has not ended.
func (l *Lives) copied(ctx context.Context) bool {
	cp, err := l.db.Checkpoints().Load(ctx, l.Config().Name)
	return err == nil && cp.Extra["snapshot"] == nil
}

// bury ends the lease of a pipeline that has crashed, as time would.
func (l *Lives) bury(ctx context.Context) error {
	leaser, _ := state.As[state.Leaser](l.db.Checkpoints())
	key := l.Config().Name
	g, err := leaser.Acquire(ctx, key, state.LeaseRequest{Nonce: state.NewNonce(), TTL: time.Minute, Steal: true})
	if err != nil {
		return err
	}
	return leaser.Release(ctx, key, g.Fence)
}

// live runs one pipeline: until it crashes, or, if steps is 0, until it is done.
func (l *Lives) live(ctx context.Context, steps int, done func(copied bool) bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	life := &life{lives: l, crash: stop}
	life.steps.Store(int64(steps))
	cfg := l.Config()
	if steps > 0 {
		cfg.GraceTime = 50 * time.Millisecond
	}
	if l.Once {
		cfg.Destination = l.db.Client(life.fault)
	} else {
		cfg.Destination, cfg.Store = life, state.Intercept(l.db.Checkpoints(), life.intercept)
	}
	p, err := rigatoni.New(cfg)
	if err != nil {
		return err
	}
	if l.Began != nil {
		l.Began(p)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if life.dead.Load() {
				return nil
			}
			return fmt.Errorf("it ended by itself: %w", err)
		case <-tick.C:
		}
		if steps > 0 && l.Quiet && l.copied(ctx) {
			life.die()
		}
		if steps == 0 && done(l.copied(ctx)) {
			stop()
			return <-ended
		}
	}
}

// A life is one of the pipelines, and its destination unless that is a database.
type life struct {
	lives *Lives
	crash func()
	steps atomic.Int64 // until the crash; 0: there is none
	dead  atomic.Bool

	delivered atomic.Int64

	run int
	mu  sync.Mutex // of run, with lanes
}

// step is a step of the process. It returns false if it has crashed.
func (l *life) step() bool {
	if l.dead.Load() {
		return false
	}
	if l.steps.Load() > 0 && l.steps.Add(-1) == 0 {
		l.die()
		return false
	}
	return true
}

func (l *life) die() {
	l.dead.Store(true)
	l.crash()
}

// slow slows deliveries down. The pauses are long enough for the system's clock.
func (l *life) slow() {
	const pauses = 100 // in a second
	if n := l.lives.Slow; n > 0 && l.delivered.Add(1)%int64(max(1, n/pauses)) == 0 {
		time.Sleep(time.Second / pauses)
	}
}

// intercept has a crash come before a save or after it.
func (l *life) intercept(ctx context.Context, c state.Call, next func(context.Context) error) error {
	if c.Op != state.OpSave {
		return next(ctx)
	}
	if !l.step() {
		return errCrashed
	}
	err := next(ctx)
	if !l.step() {
		return errCrashed
	}
	return err
}

// fault has a crash come at a step of a transaction or of a save.
func (l *life) fault(s rigatonitest.Step) rigatonitest.Fault {
	if s.Point == rigatonitest.Applied {
		l.slow()
	}
	if s.Op != "" && s.Op != state.OpSave {
		return rigatonitest.Fault{}
	}
	if !l.step() {
		return rigatonitest.Fault{Err: errCrashed}
	}
	return rigatonitest.Fault{}
}

// Open implements rigatoni.Destination.
func (l *life) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run = l.lives.Recorder.Begin(Run{Resumed: !o.FirstStart, From: o.ClusterTime})
	return l, nil
}

// Concurrent implements rigatoni.Concurrent, for the tests with lanes.
func (l *life) Concurrent() bool { return true }

// Deliver implements rigatoni.Sink.
func (l *life) Deliver(_ context.Context, b *rigatoni.Batch) error {
	l.mu.Lock()
	run := l.run
	l.mu.Unlock()
	for i, ev := range b.Events {
		if !l.step() {
			return errCrashed
		}
		l.lives.Recorder.Record(run, ev)
		l.slow()
		if !l.step() {
			return errCrashed
		}
		b.Done(i + 1)
	}
	return nil
}
