package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Run runs the pipeline that cfg describes until ctx ends, and then stops it
// cleanly: what is in hand is delivered, the last checkpoint is saved, the lease
// is released, and Run returns nil. Any other error means that the pipeline
// can't continue, or that not everything in hand could be delivered
// ([ErrUndelivered]) and saved ([ErrUnsaved]); what was delivered is saved as far
// as it can be. With several streams it is the errors of all that failed.
//
// Among the errors, for errors.Is: [ErrHistoryLost], [ErrChangedStream],
// [ErrOtherCheckpoint], [ErrNoFirstStart], [ErrOutputExists], [ErrOutputAhead],
// [ErrCheckpointLost], [ErrDeliveryHung], and the store's state.ErrLeaseHeld,
// ErrCorrupt, ErrNewer, ErrExpired and ErrUnavailable; for errors.As:
// [*FirstStartError], [*ChangedStreamError], [*OutputError] and [*RefusedError].
func Run(ctx context.Context, cfg Config) error {
	p, err := New(cfg)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// A Pipeline is one run of a Config. Its methods are safe for concurrent use.
type Pipeline struct {
	cfg     Config
	started atomic.Bool

	ready chan struct{} // closed when every stream is open, or Run has ended
	ended chan struct{} // closed when Run has ended
	err   error         // of Run; to be read after ended is closed

	workers   []*worker  // one for each stream, in the order of the source's
	historian *historian // nil where the source reports no history

	mu      sync.Mutex
	waiting int // streams that have not been opened
}

// New checks cfg and makes a pipeline of it, of the streams that its source has
// then. Nothing is opened before Run.
func New(cfg Config) (*Pipeline, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	streams := cfg.Source.Streams()
	if err := claim(&cfg, streams); err != nil {
		return nil, err
	}
	p := &Pipeline{cfg: cfg, ready: make(chan struct{}), ended: make(chan struct{}), waiting: len(streams)}
	p.workers, p.historian = newWorkers(p, streams), newHistorian(&p.cfg)
	return p, nil
}

// claim checks that each of the streams can have a checkpoint of its own.
func claim(cfg *Config, streams []string) error {
	if len(streams) == 0 {
		return errors.New("rigatoni: the source has no streams")
	}
	claimed := make(map[string]bool, len(streams))
	for _, s := range streams {
		key := cfg.key(s)
		if err := state.CheckKey(LostKey(key)); err != nil {
			return fmt.Errorf("rigatoni: the stream %q can't have a checkpoint: %w", s, err)
		}
		if isReserved(s) {
			return fmt.Errorf("rigatoni: the stream %q can't have a checkpoint: names that begin with @, also after a slash, are reserved", s)
		}
		if claimed[key] {
			return fmt.Errorf("rigatoni: the source has two streams named %q", s)
		}
		claimed[key] = true
	}
	return nil
}

// newWorkers makes a worker for each stream.
func newWorkers(p *Pipeline, streams []string) []*worker {
	census := newCensus(&p.cfg, streams)
	var all []*worker
	for _, s := range streams {
		key := p.cfg.key(s)
		st := &monitor{hooks: &p.cfg.Hooks, patience: storePatience(&p.cfg), s: StreamStatus{Stream: s, Key: key, Phase: PhaseStarting}}
		log := p.cfg.Logger.With("pipeline", p.cfg.Name)
		if s != "" {
			log = log.With("stream", s)
		}
		w := &worker{
			cfg: &p.cfg, stream: s, key: key, census: census, log: log, status: st, opened: p.opened,
			checkpointer: &checkpointer{cfg: &p.cfg, key: key, log: log, status: st, watchdog: newWatchdog(&p.cfg, log)},
		}
		w.recovery = recovery{policies: p.cfg.OnHistoryLost, key: key, log: log, open: w.openStream}
		all = append(all, w)
	}
	return all
}

// Ready is closed once every stream is open and where it begins is saved: from
// then on no event is lost, whatever happens. It is closed too when Run ends
// before that; [Pipeline.Wait] tells the two apart.
func (p *Pipeline) Ready() <-chan struct{} { return p.ready }

// Wait waits until every stream is open and where it begins is saved, and returns
// nil. If Run ends before that, it returns Run's error, or one that says so if
// there is none. If ctx ends first, it returns the cause.
func (p *Pipeline) Wait(ctx context.Context) error {
	select {
	case <-p.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	open := p.waiting == 0
	p.mu.Unlock()
	if open {
		return nil
	}
	<-p.ended
	if p.err != nil {
		return p.err
	}
	return errors.New("rigatoni: the pipeline was stopped before every stream was open")
}

// Status returns the state of each stream, in the order of the source's. It may be
// called at any time.
func (p *Pipeline) Status() []StreamStatus {
	all := make([]StreamStatus, len(p.workers))
	for i, w := range p.workers {
		all[i] = w.status.snapshot()
		p.historian.addTo(&all[i])
	}
	return all
}

// Run runs the pipeline, as the function [Run] does. It can be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("rigatoni: this pipeline has been run already; make another with New")
	}
	stop := p.watchHistory(ctx)
	p.err = p.runWorkers(ctx)
	stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting != 0 {
		close(p.ready)
	}
	close(p.ended)
	return p.err
}

// watchHistory has the historian run until ctx ends or stop is called.
func (p *Pipeline) watchHistory(ctx context.Context) (stop func()) {
	if p.historian == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.historian.run(ctx, p.Status)
	}()
	return func() {
		cancel()
		<-done
	}
}

// runWorkers runs the workers. The first that fails stops the others, cleanly.
func (p *Pipeline) runWorkers(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(p.workers))
	for i, w := range p.workers {
		wg.Go(func() {
			// A source or a store may panic, or end the goroutine: the lease is
			// released all the same, and the others are stopped.
			if err := w.withFacts(<-guarded(func() error { return w.run(ctx) })); err != nil {
				errs[i] = fmt.Errorf("rigatoni: %s: %w", quote.Text(w.key), err)
				w.status.failed(err)
				w.status.phase(PhaseFailed)
				w.log.Error("stream failed", "key", w.key, "err", err)
				stop()
				return
			}
			w.status.phase(PhaseStopped)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// opened is called once for each stream.
func (p *Pipeline) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		close(p.ready)
	}
}
