package rigatoni

import (
	"context"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A HistorySource can tell how far back its server's history of events reaches:
// for how long a pipeline may be down without losing its place. It is optional for
// a [Source]. An error means that it can't be told now, or by this user.
type HistorySource interface {
	History(ctx context.Context) (time.Duration, error)
}

// warnOfExpiry tells, once, where the store forgets the place before the server
// does: a pipeline that was down in between could have gone on, and can't.
func (w *worker) warnOfExpiry(ctx context.Context) {
	e, ok := state.As[state.Expirer](w.cfg.Store)
	if !ok || e.Expires() <= 0 {
		return
	}
	src, ok := w.cfg.Source.(HistorySource)
	if !ok {
		return
	}
	w.p.expiryOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, closeTime)
		defer cancel()
		history, err := src.History(ctx)
		if err != nil {
			w.log.Debug("how far back the server's history reaches can't be told", "err", err)
			return
		}
		if ttl := e.Expires(); ttl < history {
			w.log.Warn("the store forgets a checkpoint sooner than the server forgets its place: a pipeline that is down for longer than the time to live "+
				"has to start anew, though its events are still there; give the store a longer time to live, or none",
				"time to live", ttl, "server's history", history.Round(time.Second))
		}
	})
}
