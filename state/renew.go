package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// renewLoop renews the lease every third of its TTL, and after a failure within a
// thirtieth, until it ends. It waits for nothing else: a save that hangs must not
// cost the lease.
func (l *Lease) renewLoop(ctx context.Context) {
	defer close(l.renewer)
	pause := l.ttl / 3
	for backoff.Wait(ctx, pause) == nil {
		var alive bool
		if pause, alive = l.renew(ctx); !alive {
			return
		}
	}
}

// renew tries once. The limit of an attempt is a third of the TTL, so that one that
// gets no response leaves time for two more.
func (l *Lease) renew(ctx context.Context) (pause time.Duration, alive bool) {
	if l.Valid() != nil {
		return 0, false
	}
	sent := l.now()
	attempt, cancel := context.WithTimeout(ctx, l.ttl/3)
	err := l.leaser.Renew(attempt, l.key, l.grant.Fence, l.ttl)
	cancel()
	if err == nil || ctx.Err() == nil {
		l.tried(err)
	}
	switch {
	case err == nil:
		return l.extend(sent)
	case ctx.Err() != nil:
		return 0, false
	case errors.Is(err, ErrFenced):
		l.loseTo(err)
		return 0, false
	case errors.Is(err, ErrClosed):
		l.lose(l.error(fmt.Errorf("%w: it can no longer be renewed: %w", ErrFenced, err)))
		return 0, false
	}
	l.mu.Lock()
	first := l.failure == nil
	l.failure = err
	left := l.trusted.until(l.now())
	l.mu.Unlock()
	if first {
		l.log.Warn("lease renewal failed, retrying", "err", err, "left_seconds", left.Seconds())
	}
	return min(backoff.Jitter(l.ttl/30), max(left, 0)), true
}

// extend extends the lease after a successful renewal, from the time at which that
// was sent: the store may have executed it at once and responded late. A response
// after the lease has expired doesn't revive it, since others may have seen that.
func (l *Lease) extend(sent instant) (pause time.Duration, alive bool) {
	if l.Valid() != nil {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, false
	}
	if l.failure != nil {
		l.log.Info("lease renewed again")
	}
	l.failure = nil
	l.trusted = sent.add(l.ttl - margin(l.ttl))
	l.expiry.Reset(max(l.trusted.until(l.now()), 0))
	return l.ttl/3 - l.now().since(sent), true
}

// watch is called when the lease is due to expire, unless it was renewed.
func (l *Lease) watch() {
	if l.Valid() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.expiry.Reset(max(l.trusted.until(l.now()), 0))
	}
}
