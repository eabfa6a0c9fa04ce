package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// An owner plays a pipeline: it has the lease of a key, and delivers to a session.
type owner struct {
	t    *testing.T
	pool *pgxpool.Pool
	d    *postgres.Destination
	key  string
	log  *logBuffer

	sink  rigatoni.Transactional
	fence state.Fence
	seq   uint64
}

// logBuffer is the log of a destination.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// newOwner has a database of its own.
func newOwner(t *testing.T, o postgres.Options) *owner {
	t.Helper()
	return ownerOf(t, newPool(t, pgserver.Database(t), nil), "shop", o)
}

func ownerOf(t *testing.T, pool *pgxpool.Pool, key string, o postgres.Options) *owner {
	t.Helper()
	log := &logBuffer{}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = 30 * time.Second
	}
	d, err := postgres.New(pool, &o)
	if err != nil {
		t.Fatal(err)
	}
	own := &owner{t: t, pool: pool, d: d, key: key, log: log}
	own.acquire()
	return own
}

func (o *owner) acquire() state.Grant {
	o.t.Helper()
	store, _ := state.As[state.Leaser](o.d.Checkpoints())
	request := state.LeaseRequest{Owner: "test", Nonce: state.NewNonce(), TTL: time.Hour, Steal: true}
	g, err := store.Acquire(o.t.Context(), o.key, request)
	for deadline := time.Now().Add(time.Minute); errors.Is(err, state.ErrUnavailable) && time.Now().Before(deadline); {
		g, err = store.Acquire(o.t.Context(), o.key, request) // with a short CallTimeout, on a busy machine
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.fence, o.seq = g.Fence, g.LastSequence
	return g
}

// open opens a session, as one that isn't the first.
func (o *owner) open(change func(*rigatoni.Opening)) error {
	opening := rigatoni.Opening{Key: o.key, Fence: o.fence}
	if change != nil {
		change(&opening)
	}
	sink, err := o.d.Open(o.t.Context(), opening)
	if err == nil {
		o.sink = sink.(rigatoni.Transactional)
	}
	return err
}

// deliver makes one attempt.
func (o *owner) deliver(events ...rigatoni.Event) error {
	o.t.Helper()
	return o.deliverWith(o.t.Context(), events...)
}

func (o *owner) deliverWith(ctx context.Context, events ...rigatoni.Event) error {
	o.t.Helper()
	if o.sink == nil {
		if err := o.open(nil); err != nil {
			return err
		}
	}
	b := &rigatoni.Batch{Events: events}
	for _, ev := range events {
		b.Bytes += len(ev.Raw)
	}
	last := events[len(events)-1]
	token, err := last.Token()
	if err != nil {
		o.t.Fatal(err)
	}
	err = o.sink.DeliverAt(ctx, b, o.fence, state.Checkpoint{Token: token, ClusterTime: last.ClusterTime(), Sequence: o.seq + 1})
	if err == nil {
		o.seq++
	}
	return err
}

func (o *owner) must(events ...rigatoni.Event) {
	o.t.Helper()
	if err := o.deliver(events...); err != nil {
		o.t.Fatal(err)
	}
}

// refused fails the test unless the events are refused with that text.
func (o *owner) refused(text string, events ...rigatoni.Event) {
	o.t.Helper()
	wantRefused(o.t, o.deliver(events...), text)
}

func wantRefused(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.As(err, new(*rigatoni.PermanentError)) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a refusal with %q", err, text)
	}
}

// values are the first column of a query's rows, as text.
func (o *owner) values(query string, args ...any) []string {
	o.t.Helper()
	rows, err := o.pool.Query(o.t.Context(), query, args...)
	if err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
	return got
}

// want fails the test unless a query has these values.
func (o *owner) want(query string, want ...string) {
	o.t.Helper()
	if got := o.values(query); fmt.Sprint(got) != fmt.Sprint(want) {
		o.t.Errorf("%s: got %q, want %q", query, got, want)
	}
}

func insertDoc(id any, more ...bson.E) rigatoni.Event {
	return rigatonitest.Insert("shop.orders", append(bson.D{{Key: "_id", Value: id}}, more...))
}

func e(key string, v any) bson.E { return bson.E{Key: key, Value: v} }
