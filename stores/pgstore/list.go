package pgstore

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// pageSize is how many rows a listing reads at once, so that it holds no connection
// while its caller works.
const pageSize = 1000

// List yields the keys that begin with prefix, in the order of their bytes.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		last := ""
		for {
			var page []listed
			err := s.call(ctx, "list", "", func(ctx context.Context) (err error) {
				page, err = s.page(ctx, prefix, last)
				return err
			})
			if err != nil {
				yield(state.Entry{}, err)
				return
			}
			for _, l := range page {
				if e, ok := l.entry(); ok && !yield(e, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			last = page[len(page)-1].Key
		}
	}
}

// A listed row is a row of a page.
type listed struct {
	Key string // as it is stored
	Row []byte
	Now time.Time
}

func (s *Store) page(ctx context.Context, prefix, after string) (page []listed, err error) {
	rows, err := s.pool.Query(ctx, "select key, record::text, clock_timestamp() from "+s.table+
		" where starts_with(key, $1) and key > $2 order by key limit $3", storedKey(prefix), after, pageSize)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var l listed
		if err := rows.Scan(&l.Key, &l.Row, &l.Now); err != nil {
			return nil, err
		}
		page = append(page, l)
	}
	return page, rows.Err()
}

// entry describes the row; false if it has neither a checkpoint nor a lease.
func (l *listed) entry() (state.Entry, bool) {
	e := state.Entry{Key: givenKey(l.Key)}
	rec, err := record.Parse(l.Row)
	if err != nil {
		e.LoadErr = failed("list", e.Key, err)
		return e, true
	}
	if rec.Live(l.Now) {
		e.Owner, e.Until = rec.Owner, time.Now().Add(rec.LeaseUntil.Sub(l.Now))
	}
	if e.Checkpoint, err = rec.Load(); err != nil {
		e.LoadErr = failed("list", e.Key, err)
	}
	return e, rec.Status == record.Saved || rec.Live(l.Now)
}

// Text in PostgreSQL has no U+0000, which a key may have: it is written \0, and \ is
// written \\.
var (
	storing = strings.NewReplacer(`\`, `\\`, "\x00", `\0`)
	giving  = strings.NewReplacer(`\\`, `\`, `\0`, "\x00")
)

func storedKey(key string) string   { return storing.Replace(key) }
func givenKey(stored string) string { return giving.Replace(stored) }
