package rigatoni

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/state"
)

const (
	// historyEvery is how often a historian reads how far back the history
	// reaches: a handful of small commands.
	historyEvery = 5 * time.Second
	// historyRetryMax is the longest pause after it could not: a user who may not
	// read the oplog is refused each time, in the server's log too.
	historyRetryMax = 5 * time.Minute
)

// A historian knows how far back the server's history reaches, and compares the
// checkpoints with it. There is one for all streams of a pipeline, which share the
// server.
type historian struct {
	src  HistoryReporter
	log  *slog.Logger
	warn time.Duration // a runway below this is logged; not positive: never
	ttl  time.Duration // after which the store forgets a checkpoint; 0: never

	mu      sync.Mutex
	history History // zero: unknown

	// Of the goroutine that runs.
	unknown bool // it was logged that the history is unknown
	expires bool // it was logged that the store forgets too soon
	short   bool // it was logged that a runway is short
}

// newHistorian returns nil where the source reports no history.
func newHistorian(cfg *Config) *historian {
	src, ok := cfg.Source.(HistoryReporter)
	if !ok {
		return nil
	}
	h := &historian{src: src, log: cfg.Logger.With("pipeline", cfg.Name), warn: cfg.RunwayWarning}
	if e, ok := state.As[state.Expirer](cfg.Store); ok {
		h.ttl = max(0, e.Expires())
	}
	return h
}

// run reads the history every so often until ctx ends, and warns where it is too
// short.
func (h *historian) run(ctx context.Context, status func() []StreamStatus) {
	failures := 0
	for {
		history, err := h.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrDeliveryHung):
			h.set(History{})
			h.log.Warn("the runway is unknown: the source's History ignores its context", "err", err)
			return
		}
		h.set(history)
		h.announce(err)
		pause := historyEvery
		if err != nil {
			pause = backoff.Duration(historyEvery, historyRetryMax, failures)
			failures++
		} else {
			failures = 0
			h.warnOfExpiry(history)
			h.warnOfRunway(status())
		}
		if backoff.Wait(ctx, pause) != nil {
			return
		}
	}
}

func (h *historian) read(ctx context.Context) (history History, err error) {
	limited, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	answer := make(chan History, 1)
	err = await(limited, guarded(func() error {
		got, err := h.src.History(limited)
		answer <- got
		return err
	}))
	if err != nil {
		return History{}, err
	}
	return <-answer, nil
}

func (h *historian) set(history History) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history = history
}

// addTo adds the runway to a status.
func (h *historian) addTo(s *StreamStatus) {
	if h == nil || s.Checkpoint.IsZero() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Runway, s.RunwayKnown = h.history.Runway(bson.Timestamp{T: uint32(s.Checkpoint.Unix())})
}

// announce logs when it begins to be unknown how far the history reaches.
func (h *historian) announce(err error) {
	if err != nil && !h.unknown {
		h.log.Info("the runway is unknown", "err", err)
	}
	h.unknown = err != nil
}

// warnOfExpiry warns, once, where the store forgets a checkpoint before the server
// forgets its events: a pipeline that was down in between could have resumed, and
// can't.
func (h *historian) warnOfExpiry(history History) {
	if h.expires || h.ttl == 0 || h.ttl >= history.Reach {
		return
	}
	h.expires = true
	h.log.Warn("the store forgets a checkpoint sooner than the server forgets its events: a pipeline that is down for longer than the time to live "+
		"has to start over, though its events are still there; give the store a longer time to live, or none",
		"time_to_live_seconds", h.ttl.Seconds(), "history_seconds", history.Reach.Round(time.Second).Seconds())
}

// warnOfRunway logs when the first runway becomes short, and when none is any more.
// It is over only a tenth above the limit: at the limit it would come and go.
func (h *historian) warnOfRunway(all []StreamStatus) {
	limit := h.warn
	if h.short {
		limit += limit / 10
	}
	var worst *StreamStatus
	n := 0
	for i, s := range all {
		if !s.RunwayKnown || s.Runway >= limit {
			continue
		}
		if n++; worst == nil || s.Runway < worst.Runway {
			worst = &all[i]
		}
	}
	if h.warn <= 0 || h.short == (n > 0) {
		return
	}
	h.short = n > 0
	if !h.short {
		h.log.Info("the runway is long enough again", "warning_seconds", h.warn.Seconds())
		return
	}
	h.log.Warn("the runway is short: the oplog soon no longer reaches back to the checkpoint, and the pipeline could not resume after a longer stop; "+
		"find out what holds the checkpoint back, or enlarge the oplog (replSetResizeOplog)",
		"key", worst.Key, "streams", n, "runway_seconds", worst.Runway.Seconds(), "warning_seconds", h.warn.Seconds(),
		"checkpoint_time", worst.Checkpoint.UTC().Format(time.RFC3339))
}
