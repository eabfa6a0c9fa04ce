package changestream

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// ping asks whether the server that streams are read from is there, for no longer than
// most.
func (s *Source) ping(ctx context.Context, most time.Duration) error {
	within, cancel := limited(ctx, most)
	defer cancel()
	err := s.client.Ping(within, nil)
	if err != nil && ctx.Err() == nil && isLate(within) {
		return &lateError{took: most, err: err}
	}
	return err
}

// An arrival is the wait for a server that is away when streams are opened: one line
// when it begins, one when it is over, for all streams. It is safe for concurrent use.
type arrival struct {
	mu    sync.Mutex
	since time.Time // zero: nobody waits
}

func (a *arrival) waits(log *slog.Logger, err error, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.since.IsZero() {
		return
	}
	a.since = since
	log.Warn("server unreachable, trying on", "err", causeOf(err), "address", addressOf(err))
}

func (a *arrival) over(log *slog.Logger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.since.IsZero() {
		log.Info("server reached", "outage_seconds", seconds(time.Since(a.since)))
	}
	a.since = time.Time{}
}

// greet logs a server that is away, soon: the driver waits for half a minute before it
// says so.
func (s *Source) greet(ctx context.Context) {
	since := time.Now()
	if err := s.ping(ctx, s.limits.named); err != nil && ctx.Err() == nil {
		if _, away := absenceOf(err); away && code(err) == 0 {
			s.arrival.waits(s.log, err, since)
		}
	}
}
