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

// DefaultLeaseTTL is the default of [HoldOptions].TTL.
const DefaultLeaseTTL = 15 * time.Second

// HoldOptions are the options of [Hold]. Nil, and the zero value of each field, are
// the defaults.
type HoldOptions struct {
	// Owner is the label under which others see the lease, in the error that
	// refuses them. The default is "host/pid".
	Owner string

	// TTL is how long the lease outlives a holder that has died. The default is
	// [DefaultLeaseTTL]. The lease is renewed every third of it, and not trusted for
	// the last tenth.
	TTL time.Duration

	// Wait is how long to wait for a lease that is held. By default Hold waits
	// until the time at which the lease was due to expire when it was first
	// refused: long enough for the lease of a crashed holder to expire, while a live
	// holder, which renews, is named in the error. A lease that doesn't expire is
	// refused at once. -1 means no wait.
	Wait time.Duration

	// Steal takes the lease from a live holder, where the store supports it.
	Steal bool

	// Attempted, unless it is nil, is called after each attempt to acquire or to
	// renew the lease, with its error. It must be quick.
	Attempted func(err error)

	// Logger receives log output: waiting, failed renewals, and the loss of the
	// lease. The default is [slog.Default].
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
	if opts.Attempted == nil {
		opts.Attempted = func(error) {}
	}
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

// margin is the last part of a lease, in which its holder doesn't trust it: the
// store's clock may run faster than ours, and a save takes time to arrive.
func margin(ttl time.Duration) time.Duration { return ttl / 10 }

// A Lease is the right to write one key, while it is valid. [Hold] makes one. All
// methods may be called concurrently.
//
// The holder calls [Lease.Valid] before each delivery ([Lease.Save] and
// [Lease.Clear] call it before each write): in a process that was frozen and
// continues, [Lease.Context] may end a moment later than the lease. If all else
// fails, the fence keeps its writes out.
//
// A lease that was lost, or not renewed in time, stays lost; Hold another. Every
// error that says so is an [ErrFenced].
type Lease struct {
	leaser Leaser
	key    string
	owner  string
	grant  Grant
	ttl    time.Duration
	log    *slog.Logger
	tried  func(error) // HoldOptions.Attempted
	clock  func() time.Duration

	ctx context.Context // ends with the lease
	end context.CancelCauseFunc

	mu      sync.Mutex
	trusted instant     // the end of the time in which the lease is valid
	expiry  *time.Timer // fires at about that time
	ended   bool
	fenced  bool  // the store has answered that another owner has the lease
	failure error // the error of the last renewal

	stopRenewing context.CancelFunc
	renewer      chan struct{} // closed when the renewer has ended
	releasing    chan struct{} // a semaphore: one Release at a time
	released     bool          // guarded by releasing
}

// Hold acquires the lease on key and renews it in the background, until
// [Lease.Release] or until it is lost. ctx applies to acquiring only: its end
// doesn't end the lease.
//
// While another owner holds the lease, Hold waits for [HoldOptions].Wait. Then it
// returns the store's error, an [ErrLeaseHeld] that names the holder. It retries
// [ErrUnavailable] for a second, in addition to the store's own retries, or while it
// waits for a holder. If the response to the last attempt was lost, the key may stay
// leased to nobody for a TTL. Any other error is returned at once.
//
// Hold returns [ErrInvalid] for an invalid key or option, and
// [errors.ErrUnsupported] if s is no [Leaser].
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
		tried:     opts.Attempted,
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

// Grant returns the store's grant: the fence, and the checkpoint to resume from.
func (l *Lease) Grant() Grant {
	g := l.grant
	g.Checkpoint = g.Checkpoint.Clone()
	return g
}

// Owner returns the label under which others see the lease.
func (l *Lease) Owner() string { return l.owner }

// Context returns a context that is done when the lease ends: when it is lost, not
// renewed in time, or released. Its [context.Cause] is an [ErrFenced] that gives
// the reason. It has the values of the context passed to Hold.
func (l *Lease) Context() context.Context { return l.ctx }

// Valid returns nil while the lease is valid, and otherwise the reason why it
// isn't. It reads the clock, which takes less than a microsecond. The answer stays
// true for the margin, a tenth of the TTL; an action that relies on it should end by
// then.
func (l *Lease) Valid() error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	l.mu.Lock()
	ok, failure := l.trusted.until(l.now()) > 0, l.failure
	l.mu.Unlock()
	if !ok {
		l.lose(l.expired(failure))
		return context.Cause(l.ctx)
	}
	return nil
}

// expired returns the error of a lease that was not renewed in time. The failure of
// the last renewal is in its message only: in its chain it would make the loss look
// retryable.
func (l *Lease) expired(failure error) error {
	if failure != nil {
		return l.error(fmt.Errorf("%w: %w for %v: %v", ErrFenced, ErrLeaseExpired, l.ttl-margin(l.ttl), failure))
	}
	return l.error(fmt.Errorf("%w: %w for %v (was the process or the machine suspended?)", ErrFenced, ErrLeaseExpired, l.ttl-margin(l.ttl)))
}

func (l *Lease) error(err error) error {
	return &Error{Op: "hold", Store: "state", Key: l.key, Err: err}
}

// Save saves cp under the lease: [Leaser.SaveFenced], after Valid. The call is
// cancelled when the lease ends. An [ErrFenced] from the store ends the lease.
func (l *Lease) Save(ctx context.Context, cp Checkpoint) error {
	return l.write(ctx, func(ctx context.Context) error {
		return l.leaser.SaveFenced(ctx, l.key, l.grant.Fence, cp)
	})
}

// Clear removes the checkpoint under the lease, as Save saves one. The lease is
// kept.
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

// Release ends the lease and releases it in the store, so that the next Hold need
// not wait. Before that it stops the renewals, and waits for one that is in
// progress. The caller has stopped delivering and saving under the lease. If
// Release fails, the lease has ended nevertheless, and expires in the store; Release
// may be called again. After success, or if another owner has the lease, it does
// nothing and returns nil.
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

// finish ends the lease, and reports whether it had not ended before.
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

// lose ends the lease, which the holder didn't release.
func (l *Lease) lose(cause error) {
	if l.finish(cause) {
		l.log.Error("lease lost", "err", cause)
	}
}

// loseTo is lose after the store has answered that another owner has the lease.
func (l *Lease) loseTo(cause error) {
	l.mu.Lock()
	l.fenced = true
	l.mu.Unlock()
	l.lose(cause)
}
