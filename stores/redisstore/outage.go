package redisstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An outage is the time in which calls fail because Redis is unavailable. It is logged
// when it begins and when it ends.
type outage struct {
	on atomic.Bool // since is not zero

	mu    sync.Mutex
	since time.Time       // when the first failed call began
	last  time.Time       // when a call failed last
	keys  map[string]bool // that are affected, in a Cluster
}

// quietAfter is how long after the last failed call any call that succeeds ends the
// outage of a Cluster. Before, it must be one of an affected key.
const quietAfter = 5 * time.Second

// begin records that a call failed with err.
func (o *outage) begin(ctx context.Context, s *Store, key string, began time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.since.IsZero()
	if first {
		o.since, o.keys = began, make(map[string]bool)
	}
	if o.last = time.Now(); s.cluster != nil {
		o.keys[key] = true
	}
	o.on.Store(true)
	if first {
		s.opts.Logger.WarnContext(ctx, "redis unavailable", "server", s.name, "err", err.Error())
	}
}

// end records that a call succeeded.
func (o *outage) end(ctx context.Context, s *Store, key string) {
	if !o.on.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() || s.cluster != nil && !o.keys[key] && time.Since(o.last) < quietAfter {
		return
	}
	s.opts.Logger.InfoContext(ctx, "redis available again", "server", s.name, "outage_seconds", time.Since(o.since).Seconds())
	o.since, o.keys = time.Time{}, nil
	o.on.Store(false)
}
