package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Errors of rows are the event's, and all others are tried again.
func TestErrorClasses(t *testing.T) {
	for code, row := range map[string]bool{
		"22P02": true, "22P05": true, "23505": true, "23514": true, "54000": true, "P0001": true,
		"08006": false, "57P01": false, "57014": false, "53100": false, "53300": false, "40001": false, "40P01": false, "25006": false, "25P03": false,
		"55P03": false, "58030": false, "": false, "42P01": false, "42703": false, "42501": false, "0A000": false, "XX000": false,
	} {
		err := describeWriting(&table{name: tableName{"public", "t"}}, &pgconn.PgError{Code: code, Message: "m", Detail: "a secret document"})
		if code == "" {
			err = describeWriting(&table{}, errors.New("connection reset"))
		}
		if got := isPermanent(err); got != row {
			t.Errorf("%s: permanent is %v", code, got)
		}
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
