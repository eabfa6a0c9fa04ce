package rigatoni

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// A saver makes the delivered position the checkpoint, at most once an interval.
// It belongs to one flow and its goroutine.
type saver struct {
	*worker
	dest        Destination
	fingerprint string

	at        Position  // delivered up to here
	unsaved   bool      // at is not what was saved last
	events    int       // delivered since the last save
	lastTry   time.Time // of a save
	failures  int       // saves failed in a row
	nextRetry time.Time // after a failure
}

func newSaver(w *worker, dest Destination, stream Stream) saver {
	return saver{worker: w, dest: dest, fingerprint: stream.Fingerprint(), at: stream.Position(), lastTry: time.Now()}
}

// moved says that everything up to pos, n events more, has been delivered.
func (s *saver) moved(pos Position, n int) {
	if pos == s.at || pos.Token.IsZero() {
		return
	}
	s.p.stats.position.tellCluster(pos.ClusterTime)
	s.at, s.unsaved = pos, true
	s.events += n
}

// untilDue is how long until saveDue has something to do.
func (s *saver) untilDue() time.Duration {
	switch {
	case !s.unsaved:
		return time.Hour
	case s.failures > 0:
		return max(0, time.Until(s.nextRetry))
	case s.events == 0:
		return max(0, time.Until(s.lastTry.Add(s.cfg.IdleInterval)))
	}
	return max(0, time.Until(s.lastTry.Add(s.cfg.SaveInterval)))
}

// saveDue saves if it is time. A store that is unavailable is no error: the
// events are delivered all the same, and the save is tried again after a while.
func (s *saver) saveDue(ctx context.Context) error {
	if s.untilDue() > 0 {
		return nil
	}
	err := s.save(ctx)
	if err == nil || isRewind(err) || saveIsFinal(err) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	pause := backoff(s.cfg.RetryMin, saveRetryMax(s.cfg), s.failures)
	s.failures++
	s.nextRetry = time.Now().Add(pause)
	level := slog.LevelDebug
	if s.failures&(s.failures-1) == 0 { // the 1st, 2nd, 4th …: an outage may be long
		level = slog.LevelWarn
	}
	s.log.Log(ctx, level, "the checkpoint could not be saved; trying again", "err", err, "attempts", s.failures, "in", pause.Round(time.Millisecond))
	return nil
}

// saveRetryMax bounds the pauses between attempts to save more closely than those
// between deliveries. A store that fails over is back within seconds, and until it is
// found out, all that is delivered would come again; to ask once a second harms nobody.
func saveRetryMax(c *Config) time.Duration { return max(c.RetryMin, min(c.RetryMax, time.Second)) }

// final saves what is left to save.
func (s *saver) final(ctx context.Context) error {
	if !s.unsaved || s.place.valid() != nil {
		return nil
	}
	if err := s.save(ctx); err != nil {
		return fmt.Errorf("saving the last checkpoint: %w", err)
	}
	return nil
}

// saveStart saves a place from which nothing has been delivered yet.
func (s *saver) saveStart(ctx context.Context, pos Position) error {
	if pos.Token.IsZero() {
		return fmt.Errorf("the source gave no position to start from")
	}
	s.at = pos
	return s.put(ctx, nil)
}

// save makes what was delivered durable, and then its end the checkpoint.
func (s *saver) save(ctx context.Context) error {
	if err := s.place.valid(); err != nil {
		return err
	}
	var saved json.RawMessage
	if s.last != nil {
		saved = savedBySync(s.last)
	}
	if d, ok := s.dest.(Syncer); ok {
		doc, err := d.Sync(ctx)
		if err != nil {
			return fmt.Errorf("%w, because the destination could not make durable what was delivered: %w", errRewind, err)
		}
		saved = doc
	}
	return s.put(ctx, saved)
}

func (s *saver) put(ctx context.Context, saved json.RawMessage) error {
	// A save whose answer is lost may have been done. Each attempt has a number
	// of its own, so that the next one, of a later place, is not taken for it.
	s.seq++
	cp := s.at.delivered()
	cp.Sequence, cp.Fingerprint = s.seq, s.fingerprint
	cp.SavedAt = time.Now().UTC().Truncate(time.Millisecond)
	cp.Extra = s.extra(saved)
	s.lastTry = time.Now()
	if err := s.place.save(ctx, cp); err != nil {
		s.p.stats.saveErrors.Add(1)
		return err
	}
	s.p.stats.saves.Add(1)
	s.p.stats.lastSave.tell(s.lastTry)
	s.last, s.known = &cp, true
	s.unsaved, s.events, s.failures = false, 0, 0
	return nil
}

// extra is what is saved beside the token: what others put there stays, and the
// destination's part is the new one.
func (s *saver) extra(saved json.RawMessage) map[string]json.RawMessage {
	var extra map[string]json.RawMessage
	if s.last != nil {
		extra = maps.Clone(s.last.Extra)
		delete(extra, extraName)
	}
	if saved == nil {
		return extra
	}
	if extra == nil {
		extra = make(map[string]json.RawMessage, 1)
	}
	extra[extraName] = saved
	return extra
}
