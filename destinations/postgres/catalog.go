package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
)

// catalogName is the table that records which table belongs to which collection. A
// table belongs to one collection of one checkpoint: two that shared a mirror would
// overwrite and delete one another's rows.
const catalogName = "rigatoni_tables"

// A claim is a row of the catalog.
type claim struct {
	name tableName
	key  string // of the checkpoint
	ns   rigatoni.Namespace
	mode string // with what else decides on the form of the rows; see Options.form
}

// catalogSchema is the statement that creates the catalog.
func (d *Destination) catalogSchema() string {
	return "CREATE TABLE " + d.catalog + ` (schema_name text COLLATE "C", table_name text COLLATE "C", key text COLLATE "C" NOT NULL, ` +
		`"database" text COLLATE "C" NOT NULL, collection text COLLATE "C" NOT NULL, mode text NOT NULL, PRIMARY KEY (schema_name, table_name))`
}

// prepareCatalog creates the catalog if it is missing.
func (d *Destination) prepareCatalog(ctx context.Context, tx pgx.Tx) error {
	var exists bool
	if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", d.catalog).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := tx.Exec(ctx, d.catalogSchema())
	if code := sqlState(err); code == "42501" || code == "3F000" {
		return refuse("the table %s, which records the tables of collections, can't be created (%s); have somebody who may execute %s; and GRANT SELECT, INSERT ON %s TO the user",
			d.catalog, message(err), d.catalogSchema(), d.catalog)
	}
	return err
}

// findOwn finds the names of the tables that are no collection's. One that isn't there
// yet will be in the first schema of the search path.
func (s *session) findOwn(ctx context.Context, tx pgx.Tx) error {
	s.own = map[tableName]string{}
	schema, table, ok := strings.Cut(s.d.opts.Checkpoints, ".")
	if !ok {
		schema, table = "", s.d.opts.Checkpoints
	}
	for name, what := range map[string]string{table: "the checkpoints", catalogName: "the record of which table belongs to which collection"} {
		own := tableName{schema, name}
		err := tx.QueryRow(ctx, `select coalesce(nullif($1, ''), (select nspname::text from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = to_regclass($2)), current_schema()::text, '')`,
			schema, own.String()).Scan(&own.schema)
		if err != nil {
			return err
		}
		s.own[own] = what
	}
	return nil
}

// claims are those of a checkpoint. gone are those whose tables are not there any more.
func (d *Destination) claims(ctx context.Context, tx pgx.Tx, key string) (all, gone []claim, err error) {
	rows, err := tx.Query(ctx, `select schema_name, table_name, key, "database", collection, mode,
			not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = schema_name and relname = table_name)
		from `+d.catalog+" where key = $1 order by schema_name, table_name", escaped(key))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c claim
		var isGone bool
		if err := rows.Scan(&c.name.schema, &c.name.table, &c.key, &c.ns.DB, &c.ns.Coll, &c.mode, &isGone); err != nil {
			return nil, nil, err
		}
		if all = append(all, c); isGone {
			gone = append(gone, c)
		}
	}
	return all, gone, rows.Err()
}

// claim records that a table belongs to a collection of the session, and refuses one
// that belongs to another. fresh: nobody had it before.
func (s *session) claim(ctx context.Context, tx pgx.Tx, want claim) (fresh bool, err error) {
	has, err := s.d.claimed(ctx, tx, want.name)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh = true
		// Where another session is faster, the transaction is tried again.
		_, err = tx.Exec(ctx, "insert into "+s.d.catalog+` (schema_name, table_name, key, "database", collection, mode) values ($1, $2, $3, $4, $5, $6)`,
			want.name.schema, want.name.table, want.key, want.ns.DB, want.ns.Coll, want.mode)
		has = want
	}
	if err == nil && has != want {
		return false, refuse("%s belongs to %s already, and %s would be written to the same table; give them tables of their own with another pattern (table: public.{database}_{collection}), or, if %s is not wanted any more, drop it and execute %s",
			want.name, has, want, want.name, s.forget(nil, has))
	}
	return fresh, err
}

// claimed is whose a table is; the error is pgx.ErrNoRows if it is nobody's.
func (d *Destination) claimed(ctx context.Context, tx pgx.Tx, name tableName) (claim, error) {
	c := claim{name: name}
	err := tx.QueryRow(ctx, `select key, "database", collection, mode from `+d.catalog+" where schema_name = $1 and table_name = $2", name.schema, name.table).
		Scan(&c.key, &c.ns.DB, &c.ns.Coll, &c.mode)
	return c, err
}

// String is what a claim is about, for messages.
func (c claim) String() string {
	return fmt.Sprintf("%q (a %s of the pipeline %q)", c.ns.String(), c.mode, c.key)
}

// claimOf is what a collection of the session needs.
func (s *session) claimOf(ns rigatoni.Namespace) claim {
	name := s.d.names.of(ns)
	if name.schema == "" {
		name.schema = s.schema
	}
	return claim{name, escaped(s.key), rigatoni.Namespace{DB: escaped(ns.DB), Coll: escaped(ns.Coll)}, s.d.opts.form()}
}

// escaped is a name as a column of the catalog holds it: text has neither U+0000 nor
// bytes that aren't UTF-8.
func escaped(name string) string { return string(appendEscaped(nil, name)) }
