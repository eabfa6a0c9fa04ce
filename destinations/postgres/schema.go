package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
)

// A table is one that rows can be written to.
type table struct {
	name tableName
	ns   rigatoni.Namespace
}

// A columnRule is a column that every table of a mode has.
type columnRule struct {
	name  string
	types []string // that work
	def   string   // for CREATE TABLE
}

var (
	texts       = []string{"text", "character varying"}
	commonRules = []columnRule{
		{"doc", []string{"jsonb"}, "jsonb"},
		{"op", texts, "text NOT NULL"},
		{"cluster_time", []string{"timestamp with time zone"}, "timestamptz NOT NULL"},
		{"version", []string{"bytea"}, "bytea NOT NULL"},
	}
	rules = map[string][]columnRule{
		Mirror: slices.Concat([]columnRule{{"_id", texts, `text COLLATE "C" PRIMARY KEY`}}, commonRules),
		Log: slices.Concat([]columnRule{
			{"seq", []string{"bigint"}, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
			{"_id", texts, `text COLLATE "C" NOT NULL`},
		}, commonRules),
	}
	rights = map[string][]string{Mirror: {"SELECT", "INSERT", "UPDATE", "DELETE"}, Log: {"SELECT", "INSERT"}}
)

// Schema is the statement that creates the table of a collection.
func (d *Destination) Schema(ns rigatoni.Namespace) string { return d.schemaOf(d.names.of(ns)) }

func (d *Destination) schemaOf(name tableName) string {
	var columns []string
	for _, c := range rules[d.opts.Mode] {
		columns = append(columns, c.name+" "+c.def)
	}
	return "CREATE TABLE " + name.String() + " (" + strings.Join(columns, ", ") + ")"
}

// table returns the table of a collection. The first time it is looked at, and made if
// it is missing.
func (s *session) table(ctx context.Context, ns rigatoni.Namespace) (*table, error) {
	if t := s.tables[ns]; t != nil {
		return t, nil
	}
	var t *table
	err := s.d.transact(ctx, func(tx pgx.Tx) (err error) {
		s.created = nil
		t, err = s.prepareTable(ctx, tx, ns)
		return err
	})
	if err != nil {
		return nil, describeOpening(err)
	}
	s.logCreated()
	s.tables[ns] = t
	return t, nil
}

func (s *session) prepareTable(ctx context.Context, tx pgx.Tx, ns rigatoni.Namespace) (*table, error) {
	want := s.claimOf(ns)
	if what := s.own[want.name]; what != "" {
		return nil, refuse("the %s of %s would be %s, which has %s; give the collections other tables with another pattern (table: public.m_{collection}), or leave this one out",
			s.d.opts.Mode, want.ns, want.name, what)
	}
	fresh, err := s.claim(ctx, tx, want)
	if err != nil {
		return nil, err
	}
	f, err := s.d.look(ctx, tx, want.name)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && !fresh:
		return nil, s.isGone(want)
	case errors.Is(err, pgx.ErrNoRows):
		err = s.create(ctx, tx, want.name)
	case err == nil:
		err = s.d.checkShape(ctx, tx, want.name, f)
	}
	return &table{want.name, ns}, err
}

// create creates a table, and its schema if it is missing.
func (s *session) create(ctx context.Context, tx pgx.Tx, name tableName) error {
	var exists bool
	if err := tx.QueryRow(ctx, "select exists (select from pg_namespace where nspname = $1)", name.schema).Scan(&exists); err != nil {
		return err
	}
	statements := []string{s.d.schemaOf(name)}
	if !exists {
		statements = append([]string{"CREATE SCHEMA " + quoteName(name.schema)}, statements...)
	}
	for _, sql := range statements {
		switch _, err := tx.Exec(ctx, sql); sqlState(err) {
		case "42501", "42939": // a missing right, a reserved name
			return refuse("%s can't be created (%s); have somebody who may execute %s; and GRANT %s ON %s TO the user",
				name, message(err), strings.Join(statements, "; "), strings.Join(rights[s.d.opts.Mode], ", "), name)
		default:
			if err != nil {
				return err
			}
		}
	}
	s.created = append(s.created, name)
	return nil
}

// A column is one of a table that exists.
type column struct {
	Name, Type    string
	NotNull       bool
	HasDefault    bool   // or is an identity or generated
	Fixed         string // "generated" or "an identity" if it takes no value; "" if it does
	Deterministic bool   // of its collation
}

// facts are what a table is as a whole.
type facts struct {
	oid               uint32
	kind, persistence string
	usable            bool // its schema, by the user
	secured           bool // row security is in force for the user
	unique            bool // its _id
	missing           []string
}

// look looks at a table; the error is pgx.ErrNoRows if there is none.
func (d *Destination) look(ctx context.Context, tx pgx.Tx, name tableName) (f facts, err error) {
	err = tx.QueryRow(ctx, `select c.oid, relkind::text, relpersistence::text, has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid),
			exists (select from pg_index i join pg_attribute a on a.attrelid = indrelid and a.attnum = indkey[0]
				where indrelid = c.oid and attname = '_id' and indnkeyatts = 1 and indisunique and indisvalid and indimmediate and indpred is null),
			array(select r from unnest($3::text[]) r where not has_table_privilege(c.oid, r))
		from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = $1 and relname = $2`, name.schema, name.table, rights[d.opts.Mode]).
		Scan(&f.oid, &f.kind, &f.persistence, &f.usable, &f.secured, &f.unique, &f.missing)
	return f, err
}

// checkShape refuses a table that rows can't be written to.
func (d *Destination) checkShape(ctx context.Context, tx pgx.Tx, name tableName, f facts) error {
	switch {
	case !f.usable:
		return refuse("the user lacks rights: GRANT USAGE ON SCHEMA %s TO the user", quoteName(name.schema))
	case f.kind != "r" && f.kind != "p":
		return refuse("%s is %s, and not a table; name another one (table: …), or remove it", name, kindName(f.kind))
	case f.persistence == "u":
		return refuse("%s is UNLOGGED: a crash of the server empties it, and the checkpoint would not go back; ALTER TABLE %s SET LOGGED", name, name)
	case f.secured && d.opts.Mode == Log:
		return refuse("%s has row security for this user, with which COPY is not possible; ALTER TABLE %s DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS", name, name)
	}
	columns, err := columnsOf(ctx, tx, f.oid)
	if err == nil {
		err = d.checkColumns(name, columns)
	}
	switch {
	case err != nil:
		return err
	case d.opts.Mode == Mirror && !f.unique:
		return refuse("%s can't be the mirror of a collection: its column _id has no primary key or unique index of its own that is neither partial nor deferrable; ALTER TABLE %s ADD PRIMARY KEY (_id)", name, name)
	case len(f.missing) > 0:
		return refuse("the user lacks rights: GRANT %s ON %s TO the user", strings.Join(f.missing, ", "), name)
	}
	return nil
}

func kindName(kind string) string {
	if name, ok := map[string]string{"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index", "c": "a type"}[kind]; ok {
		return name
	}
	return "of another kind"
}

func columnsOf(ctx context.Context, tx pgx.Tx, oid uint32) ([]column, error) {
	rows, err := tx.Query(ctx, `select attname::text, format_type(atttypid, atttypmod), attnotnull, atthasdef or attidentity <> '',
			case when attgenerated <> '' then 'generated' when attidentity = 'a' then 'an identity' else '' end, coalesce(collisdeterministic, true)
		from pg_attribute left join pg_collation c on c.oid = attcollation
		where attrelid = $1 and attnum > 0 and not attisdropped order by attnum`, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[column])
}

// checkColumns refuses a table that lacks a column, or has one that would get no value.
func (d *Destination) checkColumns(name tableName, columns []column) error {
	var wrong []string
	known := map[string]bool{}
	for _, rule := range rules[d.opts.Mode] {
		known[rule.name] = true
		i := slices.IndexFunc(columns, func(c column) bool { return c.Name == rule.name })
		if i < 0 {
			wrong = append(wrong, "it has no column "+rule.name)
		} else if err := rule.check(columns[i]); err != nil {
			wrong = append(wrong, err.Error())
		} else if c := columns[i]; c.Name == "doc" && c.NotNull && (d.opts.Mode == Log || d.opts.SoftDelete) {
			wrong = append(wrong, "its column doc is NOT NULL, and a delete may have none")
		}
	}
	for _, c := range columns {
		if !known[c.Name] && c.NotNull && !c.HasDefault {
			wrong = append(wrong, fmt.Sprintf("its column %s is NOT NULL and has no default", quoteName(c.Name)))
		}
	}
	if wrong == nil {
		return nil
	}
	return refuse("%s can't be the %s of a collection: %s; change it, or name another one (table: …); a new one is made by %s",
		name, d.opts.Mode, strings.Join(wrong, ", "), d.schemaOf(name))
}

func (r columnRule) check(c column) error {
	switch {
	case !slices.Contains(r.types, c.Type):
		return fmt.Errorf("its column %s is of type %s and not %s", r.name, c.Type, r.types[0])
	case r.name == "seq" && !c.HasDefault:
		return errors.New("its column seq has no default and is no identity")
	case r.name != "seq" && c.Fixed != "":
		return fmt.Errorf("its column %s is %s and takes no value", r.name, c.Fixed)
	case r.name == "_id" && !c.Deterministic:
		return errors.New("the collation of its column _id takes different texts for equal")
	}
	return nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
