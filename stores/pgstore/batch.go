package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// batchSize is how many items share a transaction.
const batchSize = 1000

// SaveBatch saves many keys, up to 1,000 in one transaction.
func (s *Store) SaveBatch(ctx context.Context, items []state.Item) []error {
	errs := record.CheckBatch(items)
	var open []int // of items, those that are in order
	for i := range items {
		if errs[i] = failed("save", items[i].Key, errs[i]); errs[i] == nil {
			open = append(open, i)
		}
	}
	for len(open) > 0 {
		n := min(len(open), batchSize)
		b := batch{store: s, items: items, open: open[:n], errs: errs}
		if err := s.call(ctx, "save", "", func(ctx context.Context) error { return s.transact(ctx, b.save(ctx)) }); err != nil {
			b.fail(err)
		}
		open = open[n:]
	}
	return errs
}

// A batch is the items of one transaction.
type batch struct {
	store *Store
	items []state.Item
	open  []int   // indexes of items
	errs  []error // of items; those of open are set here
}

// fail gives every item of the transaction its error.
func (b *batch) fail(err error) {
	for _, i := range b.open {
		if b.errs[i] == nil {
			b.errs[i] = failed("save", b.items[i].Key, describe(cause(err)))
		}
	}
}

func (b *batch) save(ctx context.Context) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		rows, now, err := b.lock(ctx, tx)
		if err != nil {
			return err
		}
		var updates, inserts rowSet
		for _, i := range b.open {
			key := storedKey(b.items[i].Key)
			row, exists := rows[key]
			next, err := b.admit(row, b.items[i], now)
			if b.errs[i] = failed("save", b.items[i].Key, err); err != nil {
				continue
			}
			if exists {
				updates.add(key, next)
			} else {
				inserts.add(key, next)
			}
		}
		if err := updates.execute(ctx, tx, "update "+b.store.table+" t set record = u.record::json from unnest($1::text[], $2::text[]) as u(key, record) where t.key = u.key"); err != nil {
			return err
		}
		return inserts.execute(ctx, tx, "insert into "+b.store.table+" select u.key, u.record::json from unnest($1::text[], $2::text[]) as u(key, record)")
	}
}

// lock reads and locks the rows, always in the same order: two batches can't wait for
// each other.
func (b *batch) lock(ctx context.Context, tx pgx.Tx) (map[string][]byte, time.Time, error) {
	keys := make([]string, len(b.open))
	for n, i := range b.open {
		keys[n] = storedKey(b.items[i].Key)
	}
	var now time.Time
	rows, err := tx.Query(ctx, "select key, record::text from "+b.store.table+" where key = any($1) order by key for update", keys)
	if err != nil {
		return nil, now, err
	}
	found := make(map[string][]byte, len(keys))
	var key string
	var row []byte
	_, err = pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		found[key] = append([]byte(nil), row...)
		return nil
	})
	if err == nil {
		err = tx.QueryRow(ctx, "select clock_timestamp()").Scan(&now)
	}
	return found, now, err
}

func (b *batch) admit(row []byte, item state.Item, now time.Time) (string, error) {
	var old record.Record
	if row != nil {
		var err error
		if old, err = record.Parse(row); err != nil {
			return "", err
		}
	}
	rec, err := record.Admit(old, item.Fence, item.Checkpoint, now)
	if err != nil {
		return "", byThisClock(err, now)
	}
	text, err := rec.AppendJSON(nil)
	return string(text), err
}

// A rowSet is rows to write in one statement.
type rowSet struct{ keys, records []string }

func (r *rowSet) add(key, record string) {
	r.keys, r.records = append(r.keys, key), append(r.records, record)
}

func (r *rowSet) execute(ctx context.Context, tx pgx.Tx, statement string) error {
	if len(r.keys) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, statement, r.keys, r.records)
	return err
}
