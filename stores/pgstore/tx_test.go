package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// sample is a checkpoint with the sequence n.
func sample(t testing.TB, n int) state.Checkpoint {
	t.Helper()
	id, err := rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: n}}).Raw.LookupErr("_id")
	if err != nil {
		t.Fatal(err)
	}
	cp, err := state.At(bson.Raw(id.Document()))
	if err != nil {
		t.Fatal(err)
	}
	cp.Sequence = uint64(n)
	return cp
}

// table is a store with a lease on the key "k", and a table of rows beside it.
type table struct {
	store *pgstore.Store
	pool  *pgxpool.Pool
	fence state.Fence
}

func newTable(t *testing.T, o pgstore.Options) *table {
	t.Helper()
	if o.CallTimeout == 0 {
		o.CallTimeout = time.Minute
	}
	url := pgserver.Database(t)
	store, err := pgstore.Open(t.Context(), url, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	tab := &table{store: store, pool: pool(t, url)}
	exec(t, tab.pool, "create table rows (n int)")
	tab.fence = tab.acquire(t, "first").Fence
	return tab
}

func (tab *table) acquire(t *testing.T, owner string) state.Grant {
	t.Helper()
	g, err := tab.store.Acquire(t.Context(), "k", state.LeaseRequest{Owner: owner, Nonce: state.NewNonce(), TTL: time.Minute, Steal: true})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// insert writes a row and the checkpoint in one transaction, as the documentation has
// it, and calls before before it commits.
func (tab *table) insert(ctx context.Context, f state.Fence, cp state.Checkpoint, before func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, tab.pool, func(tx pgx.Tx) error {
		repeated, err := tab.store.SaveTx(ctx, tx, "k", f, cp)
		if err != nil || repeated {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into rows values ($1)", cp.Sequence); err != nil {
			return err
		}
		return before(tx)
	})
}

func (tab *table) rows(t *testing.T) (rows []int) {
	t.Helper()
	r, err := tab.pool.Query(t.Context(), "select n from rows order by n")
	if err == nil {
		rows, err = pgx.CollectRows(r, pgx.RowTo[int])
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// SaveTx saves the checkpoint with the rows of its transaction, or neither; once, also
// if it is repeated; and under the current fence only.
func TestSaveTx(t *testing.T) {
	tab := newTable(t, pgstore.Options{})
	commit := func(pgx.Tx) error { return nil }
	if err := tab.insert(t.Context(), tab.fence, sample(t, 1), commit); err != nil {
		t.Fatal(err)
	}
	if err := tab.insert(t.Context(), tab.fence, sample(t, 2), func(pgx.Tx) error { return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	if cp, err := tab.store.Load(t.Context(), "k"); err != nil || cp.Sequence != 1 {
		t.Errorf("after a rollback the checkpoint is %d, %v", cp.Sequence, err)
	}
	second := sample(t, 2)
	for range 2 { // the second time as if the answer to the first had been lost
		if err := tab.insert(t.Context(), tab.fence, second, commit); err != nil {
			t.Fatal(err)
		}
	}
	old := tab.fence
	tab.fence = tab.acquire(t, "second").Fence
	if err := tab.insert(t.Context(), old, sample(t, 3), commit); !errors.Is(err, state.ErrFenced) {
		t.Errorf("the old owner: %v", err)
	}
	if err := tab.insert(t.Context(), state.Fence{}, sample(t, 3), commit); !errors.Is(err, state.ErrFenced) {
		t.Errorf("without a fence: %v", err)
	}
	if err := tab.insert(t.Context(), tab.fence, sample(t, 3), commit); err != nil {
		t.Fatal(err)
	}
	if got := tab.rows(t); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("the rows are %d", got)
	}
}

// FenceTx succeeds for the owner alone, and keeps another one from taking over until its
// transaction ends. It writes nothing.
func TestFenceTx(t *testing.T) {
	tab := newTable(t, pgstore.Options{CallTimeout: 30 * time.Second})
	check := func(f state.Fence, during func()) error {
		return pgx.BeginFunc(t.Context(), tab.pool, func(tx pgx.Tx) error {
			err := tab.store.FenceTx(t.Context(), tx, "k", f)
			if err == nil && during != nil {
				during()
			}
			return err
		})
	}
	var wg sync.WaitGroup
	var second state.Grant
	taking := make(chan struct{})
	err := check(tab.fence, func() {
		wg.Go(func() {
			close(taking)
			second = tab.acquire(t, "second")
		})
		<-taking
		waitFor(t, tab.pool, "select exists (select from pg_stat_activity where wait_event_type = 'Lock')")
	})
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]state.Fence{"the old owner": tab.fence, "nobody": {}} {
		if err := check(f, nil); !errors.Is(err, state.ErrFenced) {
			t.Errorf("%s: got %v, want ErrFenced", name, err)
		}
	}
	if err := check(second.Fence, nil); err != nil {
		t.Error(err)
	}
	exec(t, tab.pool, "delete from rigatoni_checkpoints")
	if err := check(second.Fence, nil); !errors.Is(err, state.ErrFenced) {
		t.Errorf("without a record: got %v, want ErrFenced", err)
	}
}

// Who takes over waits for a transaction that has begun, and then sees what it did: it
// was committed before the fence changed, or it has no effect.
func TestTakeoverWaitsForTransaction(t *testing.T) {
	tab := newTable(t, pgstore.Options{CallTimeout: 30 * time.Second})
	inside, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := tab.insert(t.Context(), tab.fence, sample(t, 1), func(pgx.Tx) error {
			close(inside)
			<-goOn
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	var g state.Grant
	wg.Go(func() { g = tab.acquire(t, "second") })
	waitFor(t, tab.pool, "select exists (select from pg_stat_activity where wait_event_type = 'Lock')")
	close(goOn)
	wg.Wait()
	if g.LoadErr != nil || g.Checkpoint.Sequence != 1 {
		t.Errorf("the second owner resumes from %d, %v", g.Checkpoint.Sequence, g.LoadErr)
	}
}

// A process that is suspended inside a transaction of the store holds up others for no
// longer than CallTimeout: the server ends its transaction.
func TestSuspendedOwner(t *testing.T) {
	tab := newTable(t, pgstore.Options{CallTimeout: 500 * time.Millisecond})
	conn, err := tab.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// What the store sends, and then nothing any more.
	for _, sql := range []string{tab.store.BeginStatement(), "select from rigatoni_checkpoints where key = 'k' for update"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for begun := time.Now(); ; {
		_, err := tab.store.Acquire(t.Context(), "k", state.LeaseRequest{Owner: "second", Nonce: "second", TTL: time.Minute, Steal: true})
		if err == nil {
			return
		}
		if !errors.Is(err, state.ErrUnavailable) || time.Since(begun) > 30*time.Second {
			t.Fatal(err)
		}
	}
}

// Transactions that the server rolls back because of others are repeated, also under
// the strictest isolation.
func TestConcurrentChanges(t *testing.T) {
	tab := newTable(t, pgstore.Options{CallTimeout: time.Minute})
	exec(t, tab.pool, "alter database "+tab.pool.Config().ConnConfig.Database+" set default_transaction_isolation = 'serializable'")
	strict, err := pgstore.Open(t.Context(), tab.pool.Config().ConnString(), &pgstore.Options{CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 10 {
				if err := strict.Save(t.Context(), fmt.Sprintf("new %d", n), sample(t, i+1)); err != nil && !errors.Is(err, state.ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for e, err := range tab.store.List(t.Context(), "new ") {
		if err != nil || e.Checkpoint.Sequence != 8 {
			t.Errorf("%q: %d, %v", e.Key, e.Checkpoint.Sequence, err)
		}
		n++
	}
	if n != 10 {
		t.Errorf("%d keys, not 10", n)
	}
}

// A listing says who has a lease, and until when.
func TestListLease(t *testing.T) {
	tab := newTable(t, pgstore.Options{})
	for e, err := range tab.store.List(t.Context(), "k") {
		if left := time.Until(e.Until); err != nil || e.Owner != "first" || left <= 0 || left > time.Minute {
			t.Errorf("the lease is of %q for %v, %v; it was acquired for a minute", e.Owner, left, err)
		}
		return
	}
	t.Error("the lease is not listed")
}

// A listing of several pages has every key once, whatever its bytes are.
func TestListPages(t *testing.T) {
	tab := newTable(t, pgstore.Options{CallTimeout: time.Minute})
	var items []state.Item
	want := map[string]bool{}
	for n := range 2*pgstore.PageSize + 1 {
		key := fmt.Sprintf("p\\%d\x00", n)
		want[key] = true
		items = append(items, state.Item{Key: key, Checkpoint: sample(t, 1)})
	}
	for i, err := range tab.store.SaveBatch(t.Context(), items) {
		if err != nil {
			t.Fatalf("%q: %v", items[i].Key, err)
		}
	}
	for e, err := range tab.store.List(t.Context(), "p\\") {
		if err != nil || e.LoadErr != nil || !want[e.Key] {
			t.Fatalf("%q: %v, %v; or twice", e.Key, err, e.LoadErr)
		}
		delete(want, e.Key)
	}
	if len(want) != 0 {
		t.Errorf("%d keys are missing", len(want))
	}
}

// A table that is dropped under a store is no store without checkpoints.
func TestTableDropped(t *testing.T) {
	tab := newTable(t, pgstore.Options{})
	exec(t, tab.pool, "drop table rigatoni_checkpoints")
	for op, call := range map[string]func() error{
		"load": func() error { _, err := tab.store.Load(t.Context(), "k"); return err },
		"save": func() error { return tab.store.SaveFenced(t.Context(), "k", tab.fence, sample(t, 1)) },
		"ping": func() error { return tab.store.Ping(t.Context()) },
	} {
		if err := call(); !errors.Is(err, state.ErrRefused) || !strings.Contains(err.Error(), "disappeared") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// waitFor waits until a query gives true.
func waitFor(t *testing.T, p *pgxpool.Pool, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		var is bool
		if err := p.QueryRow(ctx, query).Scan(&is); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if is {
			return
		}
	}
}
