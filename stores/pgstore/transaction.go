package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A rule is one of package record's: from the record of a key, and the server's time,
// it makes the next one, or refuses.
type rule func(rec record.Record, now time.Time) (record.Record, error)

// change replaces the record of key by the one that next returns.
func (s *Store) change(ctx context.Context, op, key string, next rule) error {
	if err := state.CheckKey(key); err != nil {
		return failed(op, key, err)
	}
	return s.call(ctx, op, key, func(ctx context.Context) error {
		return s.transact(ctx, func(tx pgx.Tx) error { return s.changeIn(ctx, tx, key, next) })
	})
}

// transact runs do in a transaction, and again if the server says that it had no
// effect because of another one.
func (s *Store) transact(ctx context.Context, do func(pgx.Tx) error) error {
	for {
		err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: s.begin}, do)
		if !rolledBack(err) || ctx.Err() != nil {
			return err
		}
	}
}

// changeIn is change in a transaction. A row that isn't there can't be locked: should
// another transaction insert it meanwhile, this one's insert fails, and it is repeated.
func (s *Store) changeIn(ctx context.Context, tx pgx.Tx, key string, next rule) error {
	old, now, err := s.read(ctx, tx, key, " for update")
	if err != nil {
		return err
	}
	rec, err := next(old, now)
	if err != nil {
		return byThisClock(err, now)
	}
	return s.write(ctx, tx, key, old, rec)
}

// byThisClock translates the end of a lease from the server's clock, by which it is
// now, to this machine's, as the contract of state.HeldError has it.
func byThisClock(err error, now time.Time) error {
	if held := (*state.HeldError)(nil); errors.As(err, &held) {
		return &state.HeldError{Owner: held.Owner, Until: time.Now().Add(held.Until.Sub(now))}
	}
	return err
}

// A querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// read returns the record of key, the zero one if there is none, and the server's time.
// A time read before a lock was waited for is too early, which lets no lease end too
// soon.
func (s *Store) read(ctx context.Context, q querier, key, lock string) (rec record.Record, now time.Time, err error) {
	var row []byte
	err = q.QueryRow(ctx, "select record::text, clock_timestamp() from "+s.table+" where key = $1"+lock, storedKey(key)).Scan(&row, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		err = q.QueryRow(ctx, "select clock_timestamp()").Scan(&now)
		return rec, now, err
	}
	if err != nil {
		return rec, now, err
	}
	rec, err = record.Parse(row)
	return rec, now, err
}

// write replaces old, which was read in the same transaction, by rec.
func (s *Store) write(ctx context.Context, tx pgx.Tx, key string, old, rec record.Record) error {
	if rec.IsEmpty() {
		_, err := tx.Exec(ctx, "delete from "+s.table+" where key = $1", storedKey(key))
		return err
	}
	row, err := rec.AppendJSON(nil)
	if err != nil {
		return err
	}
	statement := "update " + s.table + " set record = $2::text::json where key = $1"
	if old.IsEmpty() {
		statement = "insert into " + s.table + " (key, record) values ($1, $2::text::json)"
	}
	_, err = tx.Exec(ctx, statement, storedKey(key), string(row))
	return err
}
