package rigatoni

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

type historySource struct {
	*fakeSource
	history History
	err     error
	hang    chan struct{}
	asked   atomic.Int32
}

func (s *historySource) History(context.Context) (History, error) {
	s.asked.Add(1)
	if s.hang != nil {
		<-s.hang
	}
	return s.history, s.err
}

type expiringStore struct {
	state.Store
	ttl time.Duration
}

func (s expiringStore) Expires() time.Duration { return s.ttl }
func (s expiringStore) Unwrap() state.Store    { return s.Store }

func TestWarnOfExpiry(t *testing.T) {
	for name, c := range map[string]struct {
		ttl, history time.Duration
		err          error
		hang         bool
		warns        bool
	}{
		"shorter than the history":   {ttl: time.Hour, history: 2 * time.Hour, warns: true},
		"longer than it":             {ttl: 2 * time.Hour, history: time.Hour},
		"no time to live":            {ttl: 0, history: time.Hour},
		"a history that is not told": {ttl: time.Hour, err: errors.New("not authorized")},
		"a source that hangs":        {ttl: time.Hour, hang: true},
	} {
		bubble(t, name, func(t *testing.T) {
			src := &historySource{fakeSource: newFakeSource(batch(1, 1)), history: History{Reach: c.history}, err: c.err}
			if c.hang {
				src.hang = make(chan struct{}) // of the bubble
				defer close(src.hang)
			}
			src.names = []string{"a", "b"} // each opens, and one of them asks
			r := newRig(t, src.fakeSource)
			var log bytes.Buffer
			r.cfg.Source = src
			r.cfg.Store = expiringStore{r.store, c.ttl}
			r.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			r.start()
			<-r.p.Ready()
			r.sink.wait(t, 2)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "forgets a checkpoint sooner"); n > 1 || (n == 1) != c.warns {
				t.Errorf("%d warnings: %s", n, log.String())
			}
			if src.asked.Load() != 1 { // for all streams
				t.Errorf("the source was asked %d times", src.asked.Load())
			}
		})
	}
}
