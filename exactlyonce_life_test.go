package rigatoni_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A txLife is a process with a pipeline. It crashes at its n-th step: nothing that
// it does afterwards takes effect, though what it had sent before may.
type txLife struct {
	c      *txCampaign
	number int
	stop   context.CancelFunc
	ended  chan struct{}
	err    error // of Run; to be read after ended is closed

	mu      sync.Mutex
	dead    bool
	steps   int // until the crash; 0: it never comes
	calm    bool
	crashed chan struct{}
}

// start starts a process that crashes at a step; 0: never, and nothing else goes
// wrong either.
func (c *txCampaign) start(ctx context.Context, number, steps int) (*txLife, error) {
	l := &txLife{c: c, number: number, steps: steps, calm: steps == 0, ended: make(chan struct{}), crashed: make(chan struct{})}
	cfg := rigatoni.Config{
		Name: txName, Source: c.source, Destination: stalling{c.wrap(c.db.Client(l.step)), l}, DeadLetters: l, Transform: l.transform,
		MaxBatchEvents: 1 + c.roll(12), MaxAttempts: []int{0, 0, 1, 2, 3}[c.roll(5)], IdleInterval: time.Duration(1+c.roll(1000)) * time.Millisecond,
		RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond, DeliverTimeout: []time.Duration{-1, time.Second}[c.roll(2)],
		GraceTime: time.Second, LeaseTTL: txTTL, LeaseWait: time.Hour, Owner: fmt.Sprint("life ", number), Logger: c.log.With("life", number),
	}
	c.kind.configure(&cfg)
	p, err := rigatoni.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancel(ctx)
	c.running.Go(func() {
		defer close(l.ended)
		l.err = p.Run(ctx)
		c.note(l.err)
	})
	return l, nil
}

// note looks at why a pipeline ended.
func (c *txCampaign) note(err error) {
	c.count("ended")
	for _, never := range []error{state.ErrStale, rigatoni.ErrHistoryLost, rigatoni.ErrChangedStream, rigatoni.ErrCheckpointLost, rigatoni.ErrOutputExists, state.ErrInvalid} {
		if errors.Is(err, never) {
			c.mu.Lock()
			c.wrong = cmp.Or(c.wrong, fmt.Errorf("a pipeline ended: %w", err))
			c.mu.Unlock()
		}
	}
}

func (l *txLife) isOver() bool {
	select {
	case <-l.ended:
		return true
	default:
		return l.isDead()
	}
}

func (l *txLife) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// crash ends the process.
func (l *txLife) crash() {
	l.mu.Lock()
	was := l.dead
	l.dead = true
	l.mu.Unlock()
	if !was {
		l.c.count("crashed")
		close(l.crashed)
		l.stop()
	}
}

// names of points; those of calls are followed by the operation.
var names = map[rigatonitest.Point]string{
	rigatonitest.Began: "began", rigatonitest.Admitted: "admitted", rigatonitest.Applied: "applied", rigatonitest.Committing: "committing",
	rigatonitest.Committed: "committed", rigatonitest.Called: "before ", rigatonitest.Executed: "after ",
}

// tick is a step of the process. It returns false if it is dead.
func (l *txLife) tick(name string) bool {
	l.mu.Lock()
	l.steps--
	last, alive := !l.dead && l.steps == 0, !l.dead
	l.mu.Unlock()
	if last {
		l.c.count("crashed " + name)
		l.crash()
	}
	return alive && !last
}

// step is a step in the database. One that is sent before a crash may be executed
// all the same, at once or later.
func (l *txLife) step(s rigatonitest.Step) rigatonitest.Fault {
	dead, sent := l.isDead(), s.Point != rigatonitest.Began && s.Point != rigatonitest.Called
	switch {
	case s.Point == rigatonitest.Applied && isRefused(l.c.kind.number(s.Event)):
		return rigatonitest.Fault{Err: rigatoni.Permanent(errors.New("refused"))}
	case dead && !sent:
		return rigatonitest.Fault{Err: errTx}
	case dead || !l.tick(fmt.Sprint(names[s.Point], s.Op)):
		if l.c.roll(2) == 0 {
			return rigatonitest.Fault{Err: errTx}
		}
		return rigatonitest.Fault{Err: errTx, After: l.while()}
	case l.calm:
		return rigatonitest.Fault{}
	}
	switch l.c.roll(40) {
	case 0:
		return rigatonitest.Fault{Err: errTx}
	case 1:
		return rigatonitest.Fault{Err: errTx, After: l.while()}
	case 2:
		return rigatonitest.Fault{After: l.while()}
	case 3:
		if s.Point < rigatonitest.Committed {
			return rigatonitest.Fault{Err: rigatoni.Permanent(errTx)}
		}
	}
	return rigatonitest.Fault{}
}

// while is a short or a long time: longer than a lease, even.
func (l *txLife) while() time.Duration {
	most := []time.Duration{time.Nanosecond, 50 * time.Millisecond, time.Second, 2 * txTTL}[l.c.roll(4)]
	return time.Duration(1 + l.c.roll(int(most)))
}

func (l *txLife) transform(_ context.Context, ev rigatoni.Event) (rigatoni.Event, bool, error) {
	if l.c.roll(10) == 0 && !l.tick("transform") {
		return ev, false, errTx
	}
	return ev, !isDropped(l.c.kind.number(ev)), nil
}

// Put is the step of writing a dead letter.
func (l *txLife) Put(_ context.Context, d rigatoni.DeadLetter) error {
	if !l.tick("before the dead letter") {
		return errTx
	}
	n := l.c.kind.number(d.Event)
	l.c.mu.Lock()
	l.c.letters[n] = l.c.sent
	l.c.mu.Unlock()
	if !l.tick("after the dead letter") {
		return errTx
	}
	return nil
}

// stalling is a process that stands still now and then just before it sends something,
// whatever its context says.
type stalling struct {
	rigatoni.Destination
	life *txLife
}

func (d stalling) Unwrap() rigatoni.Destination { return d.Destination }

func (d stalling) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := d.Destination.Open(ctx, o)
	return stallingSink{s, d.life}, err
}

type stallingSink struct {
	rigatoni.Sink
	life *txLife
}

func (s stallingSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	if !s.life.calm && s.life.c.roll(50) == 0 {
		time.Sleep(s.life.while())
	}
	tx, _ := rigatoni.As[rigatoni.Transactional](s.Sink)
	return tx.DeliverAt(ctx, s.life.c.mark(b), f, cp)
}

func (s stallingSink) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	if !s.life.calm && s.life.c.roll(10) == 0 {
		time.Sleep(s.life.while())
	}
	sweeper, _ := rigatoni.As[rigatoni.Sweeper](s.Sink)
	return sweeper.Sweep(ctx, end)
}

// mark numbers a call of DeliverAt, in its events.
func (c *txCampaign) mark(b *rigatoni.Batch) *rigatoni.Batch {
	c.mu.Lock()
	c.sent++
	sent := c.sent
	c.mu.Unlock()
	marked := &rigatoni.Batch{Stream: b.Stream, Bytes: b.Bytes, End: b.End}
	for _, ev := range b.Events {
		marked.Events = append(marked.Events, rigatonitest.With(ev, "sent", int32(sent)))
	}
	return marked
}
