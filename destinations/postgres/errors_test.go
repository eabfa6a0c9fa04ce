package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Errors of rows are the event's, those of the connection and the server are tried again,
// and a table that was changed is looked at again.
func TestErrorClasses(t *testing.T) {
	for code, want := range map[string]struct{ row, changed bool }{
		"22P02": {row: true}, "22P05": {row: true}, "23505": {row: true}, "23514": {row: true}, "54000": {row: true}, "P0001": {row: true},
		"08006": {}, "57P01": {}, "57014": {}, "53100": {}, "53300": {}, "40001": {}, "40P01": {}, "25006": {}, "25P03": {}, "55P03": {}, "58030": {}, "": {},
		"42P01": {changed: true}, "42703": {changed: true}, "42501": {changed: true}, "42P10": {changed: true}, "0A000": {changed: true}, "XX000": {changed: true},
	} {
		err := describeWriting(&table{name: tableName{"public", "t"}}, &pgconn.PgError{Code: code, Message: "m", Detail: "a secret document"})
		if code == "" {
			err = describeWriting(&table{}, errors.New("connection reset"))
		}
		if got := isPermanent(err); got != want.row {
			t.Errorf("%s: permanent is %v", code, got)
		}
		if got := isChanged(code); got != want.changed {
			t.Errorf("%s: changed is %v", code, got)
		}
	}
	fenced := &state.Error{Err: state.ErrFenced}
	if err := describeWriting(&table{}, fenced); err != fenced {
		t.Errorf("an error of the checkpoint becomes %v", err)
	}
}

// An error of opening says what it means for who starts the pipeline.
func TestOpeningErrors(t *testing.T) {
	for code, want := range map[string]error{"08006": state.ErrUnavailable, "57P03": state.ErrUnavailable, "25006": state.ErrUnavailable, "42501": state.ErrRefused} {
		if err := describeOpening(&pgconn.PgError{Code: code}); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if err := describeOpening(errors.New("no route")); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("the network: %v", err)
	}
}
