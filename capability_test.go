package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A decorated destination passes on what it wraps, and so does its sink.
type decorated struct{ inner rigatoni.Destination }

func (d decorated) Unwrap() rigatoni.Destination { return d.inner }

func (d decorated) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := d.inner.Open(ctx, o)
	return decoratedSink{s}, err
}

type decoratedSink struct{ inner rigatoni.Sink }

func (s decoratedSink) Unwrap() rigatoni.Sink { return s.inner }

func (s decoratedSink) Deliver(ctx context.Context, b *rigatoni.Batch) error {
	return s.inner.Deliver(ctx, b)
}

// An opaque destination hides what it wraps.
type opaque struct{ inner rigatoni.Destination }

func (d opaque) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s, err := d.inner.Open(ctx, o)
	return struct{ rigatoni.Sink }{s}, err
}

// A capableSink counts the calls of what it can do. It is a Committer and has a
// Close.
type capableSink struct {
	mu    sync.Mutex
	calls map[string]int
}

func (s *capableSink) count(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
}

func (s *capableSink) Open(context.Context, rigatoni.Opening) (rigatoni.Sink, error) { return s, nil }

func (s *capableSink) Deliver(context.Context, *rigatoni.Batch) error {
	s.count("Deliver")
	return nil
}

func (s *capableSink) Sync(context.Context) (json.RawMessage, error) {
	s.count("Sync")
	return json.RawMessage(`"synced"`), nil
}

func (s *capableSink) Committed(_ context.Context, saved json.RawMessage) error {
	if string(saved) == `"synced"` {
		s.count("Committed")
	}
	return nil
}

func (s *capableSink) Close() error {
	s.count("Close")
	return nil
}

// runOnce runs a pipeline until its source, of three events, has no more.
func runOnce(t *testing.T, d rigatoni.Destination, store state.Store, concurrency int) error {
	t.Helper()
	source := rigatonitest.NewSource(rigatonitest.Delete("a.b", 1), rigatonitest.Delete("a.b", 2), rigatonitest.Delete("a.b", 3))
	source.End()
	err := rigatoni.Run(t.Context(), rigatoni.Config{
		Name: "shop", Source: source, Destination: d, Store: store, Concurrency: concurrency, Logger: slog.New(slog.DiscardHandler),
	})
	if errors.Is(err, rigatonitest.ErrEnd) {
		return nil
	}
	return err
}

// TestCapabilitiesBehindDecorators: the pipeline finds, and uses, what a sink or a
// destination can do behind decorators, however many; one without an Unwrap hides
// it.
func TestCapabilitiesBehindDecorators(t *testing.T) {
	counts := func(method string) func(*testing.T, func(rigatoni.Destination) rigatoni.Destination) bool {
		return func(t *testing.T, wrap func(rigatoni.Destination) rigatoni.Destination) bool {
			s := &capableSink{calls: map[string]int{}}
			if err := runOnce(t, wrap(s), memstore.New(), 1); err != nil || s.calls["Deliver"] == 0 {
				t.Errorf("delivering: %v, %v", err, s.calls)
			}
			return s.calls[method] > 0
		}
	}
	for name, used := range map[string]func(*testing.T, func(rigatoni.Destination) rigatoni.Destination) bool{
		"Syncer":    counts("Sync"),
		"Committer": counts("Committed"),
		"io.Closer": counts("Close"),
		"Concurrent": func(t *testing.T, wrap func(rigatoni.Destination) rigatoni.Destination) bool {
			err := runOnce(t, wrap(rigatoni.Func(rigatoni.Ignore)), memstore.New(), 4)
			if err != nil && !strings.Contains(err.Error(), "is not rigatoni.Concurrent") {
				t.Error(err)
			}
			return err == nil
		},
		"Checkpointer and Transactional": func(t *testing.T, wrap func(rigatoni.Destination) rigatoni.Destination) bool {
			db := rigatonitest.NewDatabase()
			err := runOnce(t, wrap(db), nil, 1)
			if err != nil && !strings.Contains(err.Error(), "Config.Store is nil") {
				t.Error(err)
			}
			_, lerr := db.Checkpoints().Load(t.Context(), "shop")
			return err == nil && lerr == nil && len(db.Events()) == 3
		},
	} {
		t.Run(name, func(t *testing.T) {
			decorate := func(d rigatoni.Destination) rigatoni.Destination { return decorated{d} }
			for _, c := range []struct {
				how  string
				wrap func(rigatoni.Destination) rigatoni.Destination
				want bool
			}{
				{"as it is", func(d rigatoni.Destination) rigatoni.Destination { return d }, true},
				{"behind a decorator", decorate, true},
				{"behind three", func(d rigatoni.Destination) rigatoni.Destination { return decorate(decorate(decorate(d))) }, true},
				{"behind one without Unwrap", func(d rigatoni.Destination) rigatoni.Destination { return opaque{d} }, false},
				{"behind one without Unwrap behind another", func(d rigatoni.Destination) rigatoni.Destination { return decorate(opaque{d}) }, false},
			} {
				if got := used(t, c.wrap); got != c.want {
					t.Errorf("%s: used: %v, want %v", c.how, got, c.want)
				}
			}
		})
	}
}

// TestAs: the outermost that has it is found.
func TestAs(t *testing.T) {
	inner := &capableSink{calls: map[string]int{}}
	outer := struct {
		decoratedSink
		io.Closer
	}{decoratedSink{inner}, io.NopCloser(nil)}
	if c, ok := rigatoni.As[io.Closer](outer); !ok || c == io.Closer(inner) {
		t.Errorf("Close of the outermost: %T, %v", c, ok)
	}
	if s, ok := rigatoni.As[rigatoni.Syncer](outer); !ok || s != rigatoni.Syncer(inner) {
		t.Errorf("Sync of what is wrapped: %T, %v", s, ok)
	}
	if tx, ok := rigatoni.As[rigatoni.Transactional](outer); ok || tx != nil {
		t.Errorf("found %T", tx)
	}
	if s, ok := rigatoni.As[rigatoni.Syncer](nil); ok || s != nil {
		t.Errorf("found %T in nil", s)
	}
}
