package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// refuse is an error that no repetition mends, and that requires manual intervention:
// of a table, a right or an option. It would be the same for the next event, so it ends
// the pipeline, and none is refused for it.
func refuse(format string, args ...any) error {
	return rigatoni.Permanent(refusal{fmt.Errorf("postgres: %w: %w", state.ErrRefused, fmt.Errorf(format, args...))})
}

// A refusal is rigatoni.ErrDestinationClosed, which its message doesn't say.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (r refusal) Is(target error) bool { return target == rigatoni.ErrDestinationClosed }

// mostRefusals is how many refusals one message has.
const mostRefusals = 10

// refuseAll is the refusal of all that is wrong; nil if nothing is.
func refuseAll(wrong []error) error {
	switch len(wrong) {
	case 0:
		return nil
	case 1:
		return wrong[0]
	}
	var texts []string
	for _, err := range wrong[:min(len(wrong), mostRefusals)] {
		texts = append(texts, strings.TrimPrefix(err.Error(), refusedPrefix))
	}
	if more := len(wrong) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return refuse("%s", strings.Join(texts, "; "))
}

var refusedPrefix = "postgres: " + state.ErrRefused.Error() + ": "

// refuseEvent is the error of an event that can't be written.
func refuseEvent(format string, args ...any) error {
	return rigatoni.Permanent(fmt.Errorf("postgres: "+format, args...))
}

func isPermanent(err error) bool { return errors.As(err, new(*rigatoni.PermanentError)) }

// sqlState is the code of a server's error, "" if err is none.
func sqlState(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// message is a server's message without its details, which may repeat a document.
func message(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		err = errors.New(e.Message)
	}
	return pgstore.OneLine(err).Error()
}

// describeOpening wraps an error of opening in the sentinel that says what it means for
// the caller.
func describeOpening(err error) error {
	code := sqlState(err)
	switch {
	case err == nil, isPermanent(err), errors.Is(err, context.Canceled), errors.Is(err, state.ErrInvalid), errors.As(err, new(*rigatoni.OutputError)):
		return err
	case code == "", passes(code):
		return fmt.Errorf("postgres: %w: %w", state.ErrUnavailable, pgstore.OneLine(err))
	case code == "42501":
		return refuse("the user lacks a right: %s", message(err))
	case code == "42P01": // others are looked for in the server's catalog first
		return refuse("a table of rigatoni's own has disappeared: %s; start again, which makes it", message(err))
	}
	return fmt.Errorf("postgres: %w", pgstore.OneLine(err))
}

// passes reports whether a server's error ends by itself; see pgstore.
func passes(code string) bool {
	return len(code) == 5 && (slices.Contains([]string{"08", "40", "53", "57", "58"}, code[:2]) ||
		slices.Contains([]string{"55P03", "25P03", "25006"}, code))
}

// isRowError reports whether a server's error is about a row: for its contents, for a
// constraint, by a trigger, or because it is larger than a limit. No repetition mends
// it. All others are those of the server or of the connection, or somebody has changed
// the table.
func isRowError(code string) bool {
	return len(code) == 5 && slices.Contains([]string{"22", "23", "54", "P0"}, code[:2])
}

// A writeError is one of a statement that writes to a table.
type writeError struct {
	table *table
	err   error
}

func (w *writeError) Error() string { return w.err.Error() }

func (w *writeError) Unwrap() error { return w.err }

// describeWriting says what an error of writing to a table means that has nothing wrong
// about it.
func describeWriting(t *table, err error) error {
	if code := sqlState(err); isRowError(code) {
		return refuseEvent("%s refuses a row: %s (SQLSTATE %s)", t.name, message(err), code)
	}
	return fmt.Errorf("postgres: writing to %s: %w", t.name, pgstore.OneLine(err))
}

// isTableError reports whether a server's error is about a table, a column or a right.
func isTableError(code string) bool {
	return strings.HasPrefix(code, "42") || strings.HasPrefix(code, "3F")
}
