package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// DefaultLeaseTTL is how long a lease lasts without a renewal, where
// [HoldOptions] doesn't say.
const DefaultLeaseTTL = 15 * time.Second

// HoldOptions are the options of [Hold]. The zero value is the defaults.
type HoldOptions struct {
	// Owner is the label under which others see the lease, in the error that
	// refuses them. Default: "host/pid".
	Owner string

	// TTL is how long the lease outlives a holder that has died. Default:
	// [DefaultLeaseTTL]. It is renewed every third of it, and not trusted for the
	// last tenth.
	TTL time.Duration

	// Wait is how long to wait for a lease that somebody holds. 0: until it would
	// run out, as it was last seen when it was first refused, so that a
	// crashed holder is waited out and a live one, which renews, is named in
	// the error; a lease that has no end is refused at once. Negative: not at
	// all. Positive: for that long.
	Wait time.Duration

	// Steal takes the lease from a holder that is alive, where the store can.
	Steal bool

	// Logger is told of waiting, of failed renewals and of the lease's loss.
	// Default: [slog.Default].
	Logger *slog.Logger

	clock func() time.Duration // in tests, in place of bootClock
}

func (o *HoldOptions) withDefaults() HoldOptions {
	var opts HoldOptions
	if o != nil {
		opts = *o
	}
	if opts.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		opts.Owner = fmt.Sprintf("%s/%d", strings.ToValidUTF8(host, "?"), os.Getpid())
	}
	opts.TTL = cmp.Or(opts.TTL, DefaultLeaseTTL)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.clock == nil {
		opts.clock = bootClock
	}
	return opts
}

func (o *HoldOptions) check() error {
	switch {
	case !utf8.ValidString(o.Owner):
		return fmt.Errorf("%w: the owner is not UTF-8", ErrInvalid)
	case o.TTL < time.Millisecond:
		return fmt.Errorf("%w: a lease of %v is shorter than a millisecond", ErrInvalid, o.TTL)
	}
	return nil
}

// margin is the end of a lease that its holder doesn't trust: the store's clock
// may run a little faster than ours, and a save that has been let through still
// has to get there.
func margin(ttl time.Duration) time.Duration { return ttl / 10 }

// A Lease is the right to write one key, for as long as it can be trusted. It
// is made by [Hold]. All methods may be called concurrently.
//
// Before each delivery and each save the holder asks [Lease.Valid] ([Lease.Save]
// and [Lease.Clear] do): a process that was frozen and goes on finds its
// [Lease.Context] alive for a moment longer than its lease. And should all else
// fail, it is the fence that keeps its writes out.
//
// A lease that was lost, or not renewed in time, never comes back; Hold
// another. Every error that says so is an [ErrFenced].
type Lease struct {
	leaser Leaser
	key    string
	owner  string
	grant  Grant
	ttl    time.Duration
	log    *slog.Logger
	clock  func() time.Duration

	ctx context.Context // dies with the lease
	end context.CancelCauseFunc

	mu      sync.Mutex
	trusted instant     // until when the lease can be trusted
	expiry  *time.Timer // goes off about then
	ended   bool
	fenced  bool  // the store has said that the lease is another's
	failure error // of the last renewal, nil if it succeeded

	stopRenewing context.CancelFunc
	renewer      chan struct{} // closed when the renewer has ended
	releasing    chan struct{} // holds a token while a Release is at work
	released     bool          // guarded by releasing
}

// Hold acquires the lease on key and keeps it, renewing it in the background,
// until [Lease.Release] or until it is lost. ctx is for acquiring alone: its end
// doesn't end the lease.
//
// While somebody else holds it, Hold waits as [HoldOptions].Wait says; the
// error is then the store's, an [ErrLeaseHeld] that names the holder. A store
// that is unavailable has its own retries; Hold repeats an attempt that it may
// have carried out only for a second more, or while it waits for a holder
// anyway. If the last attempt's answer was lost, the key may stay leased to
// nobody for a TTL. All other errors are returned as they come.
//
// Refused before anything is asked: a key or options that no store takes, with
// [ErrInvalid], and a store without leases, with [errors.ErrUnsupported].
func Hold(ctx context.Context, s Store, key string, o *HoldOptions) (*Lease, error) {
	leaser, ok := As[Leaser](s)
	if !ok {
		return nil, unsupported(s, "lease")
	}
	opts := o.withDefaults()
	a := acquirer{
		leaser: leaser,
		key:    key,
		req:    LeaseRequest{Owner: opts.Owner, Nonce: NewNonce(), TTL: opts.TTL, Steal: opts.Steal},
		opts:   opts,
	}
	if err := errors.Join(CheckKey(key), opts.check()); err != nil {
		return nil, &Error{Op: "hold", Store: "state", Key: key, Err: err}
	}
	grant, trusted, err := a.acquire(ctx)
	if err != nil {
		return nil, err
	}
	l := &Lease{
		leaser:    leaser,
		key:       key,
		owner:     opts.Owner,
		grant:     grant,
		ttl:       opts.TTL,
		log:       opts.Logger.With("key", key, "owner", opts.Owner, "epoch", grant.Fence.Epoch),
		clock:     opts.clock,
		trusted:   trusted,
		renewer:   make(chan struct{}),
		releasing: make(chan struct{}, 1),
	}
	l.start(context.WithoutCancel(ctx))
	return l, nil
}

func (l *Lease) start(ctx context.Context) {
	l.ctx, l.end = context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(l.ctx)
	l.stopRenewing = stop
	l.mu.Lock()
	l.expiry = time.AfterFunc(l.trusted.until(l.now()), l.watch)
	l.mu.Unlock()
	go l.renewLoop(renewing)
}

func (l *Lease) now() instant { return instant{boot: l.clock(), mono: time.Now()} }

// Grant is what the store gave when the lease was acquired: the fence, and the
// checkpoint from which to go on.
func (l *Lease) Grant() Grant {
	g := l.grant
	g.Checkpoint = g.Checkpoint.Clone()
	return g
}

// Owner is the label under which others see the lease.
func (l *Lease) Owner() string { return l.owner }

// Context ends with the lease: when it is lost, when it was not renewed in
// time, and when it is released. [context.Cause] says why, and is an
// [ErrFenced]. It has the values of the context that Hold was given.
func (l *Lease) Context() context.Context { return l.ctx }

// Valid returns nil while the lease can be trusted, and otherwise why it can't.
// It looks at the clock, which takes less than a microsecond. The answer holds
// for the margin, a tenth of the TTL: what is begun on it should end by then.
func (l *Lease) Valid() error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	l.mu.Lock()
	ok, failure := l.trusted.until(l.now()) > 0, l.failure
	l.mu.Unlock()
	if !ok {
		l.lose(l.ranOut(failure))
		return context.Cause(l.ctx)
	}
	return nil
}

// ranOut is the error of a lease that was not renewed in time. The failure of
// the last renewal is in its message only: in its chain it would make the loss
// look like something that passes.
func (l *Lease) ranOut(failure error) error {
	if failure != nil {
		return l.error(fmt.Errorf("%w: it was not renewed for %v: %v", ErrFenced, l.ttl-margin(l.ttl), failure))
	}
	return l.error(fmt.Errorf("%w: it was not renewed for %v (was the process or the machine suspended?)", ErrFenced, l.ttl-margin(l.ttl)))
}

func (l *Lease) error(err error) error {
	return &Error{Op: "hold", Store: "state", Key: l.key, Err: err}
}

// Save saves cp under the lease: [Leaser.SaveFenced], after Valid. The call ends
// with the lease, if ctx doesn't end before. An [ErrFenced] from the store ends
// the lease.
func (l *Lease) Save(ctx context.Context, cp Checkpoint) error {
	return l.write(ctx, func(ctx context.Context) error {
		return l.leaser.SaveFenced(ctx, l.key, l.grant.Fence, cp)
	})
}

// Clear takes the checkpoint away, under the lease, which is kept: see Save.
func (l *Lease) Clear(ctx context.Context) error {
	return l.write(ctx, func(ctx context.Context) error {
		return l.leaser.ClearFenced(ctx, l.key, l.grant.Fence)
	})
}

func (l *Lease) write(ctx context.Context, do func(context.Context) error) error {
	if err := l.Valid(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unlink := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	defer unlink()

	err := do(ctx)
	switch {
	case errors.Is(err, ErrFenced):
		l.loseTo(err)
	case err != nil && l.ctx.Err() != nil:
		return fmt.Errorf("%w; meanwhile: %w", context.Cause(l.ctx), err)
	}
	return err
}

// Release ends the lease and gives it back, so that the next one to Hold it
// need not wait. It first stops the renewals, and waits for one that is under
// way. Whoever delivers and saves under the lease has finished before it is
// called. When it fails, the lease is over all the same, and the store lets
// it run out; it may then be called again. After success, or when the lease was
// another's already, it does nothing and returns nil.
func (l *Lease) Release(ctx context.Context) error {
	select {
	case l.releasing <- struct{}{}:
		defer func() { <-l.releasing }()
	case <-ctx.Done():
		return l.error(ctx.Err())
	}
	l.finish(l.error(fmt.Errorf("%w: it was released", ErrFenced)))
	l.stopRenewing()
	select {
	case <-l.renewer:
	case <-ctx.Done():
		return l.error(ctx.Err())
	}
	l.mu.Lock()
	nothing := l.released || l.fenced
	l.mu.Unlock()
	if nothing {
		return nil
	}
	err := l.leaser.Release(ctx, l.key, l.grant.Fence)
	l.released = err == nil
	return err
}

// finish ends the lease, and tells whether it was alive until now.
func (l *Lease) finish(cause error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.ended = true
	l.expiry.Stop()
	l.end(cause)
	return true
}

// lose ends the lease against the holder's will.
func (l *Lease) lose(cause error) {
	if l.finish(cause) {
		l.log.Error("the lease is lost", "error", cause)
	}
}

// loseTo is lose when the store says that the lease is another's by now.
func (l *Lease) loseTo(cause error) {
	l.mu.Lock()
	l.fenced = true
	l.mu.Unlock()
	l.lose(cause)
}
