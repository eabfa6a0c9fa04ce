package rigatoni

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// expiryWarning returns a function that warns, once, where the store forgets a
// checkpoint before the server forgets its events: a pipeline that was down in
// between could have resumed, and can't.
func expiryWarning(cfg *Config) func(context.Context) {
	var asked atomic.Bool // not a sync.Once: no other stream waits for the answer
	return func(ctx context.Context) {
		e, ok := state.As[state.Expirer](cfg.Store)
		if !ok || e.Expires() <= 0 {
			return
		}
		if src, ok := cfg.Source.(HistoryReporter); ok && !asked.Swap(true) {
			warnOfExpiry(ctx, cfg, src, e.Expires())
		}
	}
}

func warnOfExpiry(ctx context.Context, cfg *Config, src HistoryReporter, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	log := cfg.Logger.With("pipeline", cfg.Name)
	var history time.Duration
	err := await(ctx, guarded(func() (err error) { history, err = src.History(ctx); return err }))
	if err != nil {
		log.Debug("the reach of the server's history is unknown", "err", err)
		return
	}
	if ttl < history {
		log.Warn("the store forgets a checkpoint sooner than the server forgets its events: a pipeline that is down for longer than the time to live "+
			"has to start over, though its events are still there; give the store a longer time to live, or none",
			"time_to_live_seconds", ttl.Seconds(), "history_seconds", history.Round(time.Second).Seconds())
	}
}
