package pgstore

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Options say how to use PostgreSQL. Nil *Options, and the zero value of each field,
// are the defaults.
//
// The fields that have a help tag can also be given as parameters of the URL, by
// their names in lower case with hyphens, beside those of PostgreSQL:
// postgres://host/db?table=etl.checkpoints&sslmode=verify-full. URL parameters
// override the corresponding fields.
type Options struct {
	// Table is the name of the table, with its schema if the search path doesn't
	// have it: "etl.checkpoints". It is taken as it is written, upper case too. The
	// default is "rigatoni_checkpoints".
	Table string `help:"table of the checkpoints, SCHEMA.TABLE or TABLE" default:"rigatoni_checkpoints" arg:"NAME"`

	// CallTimeout limits each call, and opening, if the context doesn't end sooner.
	// A transaction of the store that its process doesn't end (it was suspended,
	// or the network was cut) is ended by the server after this time, so that it
	// can't hold up another owner. The default is 5s.
	CallTimeout time.Duration `help:"limit for each call of the store" default:"5s" min:"1ms" max:"10m"`

	// NoCreate keeps Open from creating the table. Where it is missing, and could be
	// created, the error is [ErrNoTable].
	NoCreate bool
}

// complete fills in the defaults, and returns an ErrInvalid that names the field that
// is wrong.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if err := option.Complete("Options.", &c); err != nil {
		return c, fmt.Errorf("%w: %w", state.ErrInvalid, err)
	}
	for _, part := range c.identifier() {
		if part == "" || len(part) > 63 || strings.ContainsRune(part, 0) {
			return c, fmt.Errorf("%w: Options.Table is %q; it must be a name of at most 63 bytes, or SCHEMA.TABLE", state.ErrInvalid, c.Table)
		}
	}
	return c, nil
}

func (o *Options) identifier() pgx.Identifier {
	return pgx.Identifier(strings.SplitN(o.Table, ".", 2))
}
