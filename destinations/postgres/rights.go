package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
)

// A Right is one that the user has or lacks.
type Right struct {
	Name    string // "CREATE on the schema public"
	For     string // what it is for
	Granted bool
}

// A Report is what the server has for a stream, and what is still to be made.
type Report struct {
	User    string
	Rights  []Right
	Missing []string // the tables that a start makes, quoted
}

// Inspect reports what a session of a stream with this scope, which may be nil, finds.
// It writes nothing, and needs no rights but to connect. Of collections that the scope
// doesn't name one by one, the tables are not known beforehand.
func (d *Destination) Inspect(ctx context.Context, scope *rigatoni.Scope) (Report, error) {
	var r Report
	err := d.transact(ctx, func(tx pgx.Tx) error {
		r = Report{}
		if err := tx.QueryRow(ctx, "select current_user::text").Scan(&r.User); err != nil {
			return err
		}
		for _, n := range d.needed(scope) {
			if err := r.inspect(ctx, tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	return r, describeOpening(err)
}

// A need is a table, and the rights that it takes.
type need struct {
	table  string // quoted
	schema string // not quoted; "" for the first of the search path
	rights []string
	what   string
}

func (d *Destination) needed(scope *rigatoni.Scope) []need {
	name := tableName{table: d.opts.Checkpoints}
	if schema, table, ok := strings.Cut(d.opts.Checkpoints, "."); ok {
		name = tableName{schema, table}
	}
	all := []need{
		{name.String(), name.schema, []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, "the checkpoints"},
		{d.catalog, name.schema, []string{"SELECT", "INSERT"}, "the record of which table belongs to which collection"},
	}
	for _, ns := range named(scope) {
		table := d.names.of(ns)
		all = append(all, need{table.String(), table.schema, rights[d.opts.Mode], "the " + d.opts.Mode + " of " + ns.String()})
	}
	return all
}

// inspect looks at one table: the rights on it or, where it is missing, to make it.
func (r *Report) inspect(ctx context.Context, tx pgx.Tx, n need) error {
	var exists bool
	if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", n.table).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		r.Missing = append(r.Missing, n.table)
		return r.mayCreate(ctx, tx, n)
	}
	var missing []string
	for _, right := range n.rights {
		var has bool
		if err := tx.QueryRow(ctx, "select has_table_privilege($1, $2)", n.table, right).Scan(&has); err != nil {
			return err
		}
		if !has {
			missing = append(missing, right)
		}
	}
	if missing == nil {
		r.add(Right{strings.Join(n.rights, ", ") + " on " + n.table, n.what, true})
		return nil
	}
	r.add(Right{strings.Join(missing, ", ") + " on " + n.table, n.what, false})
	return nil
}

func (r *Report) mayCreate(ctx context.Context, tx pgx.Tx, n need) error {
	var schema, database string
	var exists, may bool
	err := tx.QueryRow(ctx, `select s.name, current_database()::text, n.oid is not null,
			case when n.oid is not null then has_schema_privilege(n.oid, 'CREATE') else has_database_privilege(current_database(), 'CREATE') end
		from (select coalesce(nullif($1, ''), current_schema()::text, 'public') as name) s left join pg_namespace n on n.nspname = s.name`, n.schema).
		Scan(&schema, &database, &exists, &may)
	if err != nil {
		return err
	}
	name := "CREATE on the schema " + quoteName(schema)
	if !exists {
		name = "CREATE on the database " + quoteName(database)
	}
	r.add(Right{name, "making the tables that are missing", may})
	return nil
}

func (r *Report) add(one Right) {
	if !slices.Contains(r.Rights, one) {
		r.Rights = append(r.Rights, one)
	}
}
