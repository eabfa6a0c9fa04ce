package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rigatoni-etl/rigatoni/state"
)

// ErrNoTable is the error of Open with Options.NoCreate where the table is missing.
var ErrNoTable = errors.New("the table of the checkpoints is missing")

// errReadOnly is a server's that accepts no writes.
var errReadOnly = errors.New("the server is a standby or read-only, and accepts no writes")

func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Store: "pgstore", Key: key, Err: err}
}

// sqlState is the code of a server's error, "" if err is none.
func sqlState(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// message is a server's message without its details, which may repeat a record.
func message(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return joined(e.Message)
	}
	return OneLine(err).Error()
}

// describe wraps an error in the sentinel that says what it means for the caller.
func describe(err error) error {
	code := sqlState(err)
	switch {
	case err == nil, isDescribed(err):
		return err
	case code == "42P01":
		return fmt.Errorf("%w: the table of the checkpoints has disappeared: %w", state.ErrRefused, said{err})
	case code == "42501":
		return fmt.Errorf("%w: the user lacks a right: %w", state.ErrRefused, said{err})
	case code == "28P01" || code == "28000":
		return fmt.Errorf("%w: %w", state.ErrRefused, said{err})
	case passes(code), code == "" && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", state.ErrUnavailable, OneLine(err))
	case code == "":
		return fmt.Errorf("%w: no response in time: %w", state.ErrUnavailable, OneLine(err))
	}
	return fmt.Errorf("%w: %w", state.ErrRefused, OneLine(err))
}

// A said error is a server's message alone.
type said struct{ error }

func (s said) Error() string { return message(s.error) }

func (s said) Unwrap() error { return s.error }

// isDescribed reports whether err says already what it means.
func isDescribed(err error) bool {
	return slices.ContainsFunc([]error{
		state.ErrNotFound, state.ErrCorrupt, state.ErrNewer, state.ErrExpired, state.ErrUnavailable, state.ErrRefused,
		state.ErrFenced, state.ErrStale, state.ErrLeaseHeld, state.ErrClosed, state.ErrInvalid,
	}, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// passes reports whether a server's refusal is one that ends by itself: a connection
// lost (08), a transaction rolled back because of others (40), too many connections
// (53), a lock or a statement that took too long (55P03, 57014), a server that stops
// or starts (57P01 and on), a transaction ended for being idle (25P03), and a primary
// that has become a standby (25006).
func passes(code string) bool {
	if len(code) != 5 {
		return false
	}
	return slices.Contains([]string{"08", "40", "53", "58"}, code[:2]) ||
		slices.Contains([]string{"55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"}, code)
}

// rolledBack reports whether the server says that a transaction had no effect and
// that the same one may succeed: it met another one, or a row that was inserted
// meanwhile (23505).
func rolledBack(err error) bool {
	code := sqlState(err)
	return strings.HasPrefix(code, "40") && code != "40003" || code == "23505"
}

// badURL is the error of a URL that can't be read. pgx's own message has parts of it,
// a password perhaps.
func badURL(err error) error {
	var invalid *pgconn.ParseConfigError
	hint := ""
	if errors.As(err, &invalid) {
		if cause := errors.Unwrap(invalid); cause != nil && !strings.Contains(cause.Error(), "parse \"") {
			hint = " (" + cause.Error() + ")"
		}
	}
	return fmt.Errorf("%w: the URL can't be read%s; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and characters such as @ / ? # %% in the password as %%40 and the like", state.ErrInvalid, hint)
}

// cause is the error that the state.Error of a whole batch wraps.
func cause(err error) error {
	if e := (*state.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
