package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Run runs the pipeline that cfg describes until ctx ends, and then stops it
// cleanly: what is in hand is delivered, the last checkpoint is saved, the lease
// is given back, and Run returns nil. Any other error means that the pipeline
// can't go on; what was delivered until then is saved, as far as it still can be.
//
// Among the errors, for errors.Is: [ErrHistoryLost], [ErrChangedStream],
// [ErrUnclaimed], [ErrOutputExists], [ErrCheckpointLost], and the store's
// state.ErrLeaseHeld, ErrCorrupt, ErrNewer, ErrExpired and ErrUnavailable.
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
	stats   counters

	ready     chan struct{}
	notYet    atomic.Int64 // streams that have not been opened
	claimKeys map[string]bool

	expiryOnce sync.Once
}

// New checks cfg and makes a pipeline of it. Nothing is opened before Run.
func New(cfg Config) (*Pipeline, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Pipeline{cfg: cfg, ready: make(chan struct{})}, nil
}

// Ready is closed once every stream is open and the place where it begins is
// saved: from then on no event is lost, whatever happens.
func (p *Pipeline) Ready() <-chan struct{} { return p.ready }

// Run runs the pipeline, as the function [Run] does. It can be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("rigatoni: this pipeline has been run already; make another with New")
	}
	streams := p.cfg.Source.Streams()
	if len(streams) == 0 {
		return errors.New("rigatoni: the source has no streams")
	}
	p.claimKeys = make(map[string]bool, len(streams))
	for _, s := range streams {
		key := p.cfg.key(s)
		if err := state.CheckKey(key); err != nil {
			return fmt.Errorf("rigatoni: the stream %q can't have a checkpoint: %w", s, err)
		}
		if p.claimKeys[key] {
			return fmt.Errorf("rigatoni: the source has two streams named %q", s)
		}
		p.claimKeys[key] = true
	}
	p.notYet.Store(int64(len(streams)))
	return p.runWorkers(ctx, streams)
}

// runWorkers runs a worker for each stream. The first that fails stops the
// others, cleanly, and its error is the one returned.
func (p *Pipeline) runWorkers(ctx context.Context, streams []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, s := range streams {
		w := &worker{p: p, cfg: &p.cfg, stream: s, key: p.cfg.key(s)}
		w.log = p.cfg.Logger.With("pipeline", p.cfg.Name)
		if s != "" {
			w.log = w.log.With("stream", s)
		}
		wg.Go(func() {
			if err := w.run(ctx); err != nil {
				once.Do(func() { first = fmt.Errorf("rigatoni: %s: %w", w.key, err) })
				stop()
			}
		})
	}
	wg.Wait()
	return first
}

// opened is told once for each stream.
func (p *Pipeline) opened() {
	if p.notYet.Add(-1) == 0 {
		close(p.ready)
	}
}
