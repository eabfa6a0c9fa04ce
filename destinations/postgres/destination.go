package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/pgstore"
)

// A Destination writes the changes of collections to tables, as [Options] say. It is
// safe for concurrent use.
type Destination struct {
	pool    *pgxpool.Pool
	owned   bool // Close closes the pool
	store   *pgstore.Store
	opts    Options
	names   pattern
	catalog string // the name of a table, quoted

	replaced atomic.Uint64
}

var (
	_ rigatoni.Checkpointer   = (*Destination)(nil)
	_ rigatoni.OpeningChecker = (*Destination)(nil)
)

// Checkpoints is the store of the checkpoints. It has leases.
func (d *Destination) Checkpoints() state.Store { return d.store }

// ReplacedNULs is how many characters U+0000 have been replaced; see [Options].OnNUL.
func (d *Destination) ReplacedNULs() uint64 { return d.replaced.Load() }

// Close closes the connections if [Open] made them. Call it after the pipeline has
// ended.
func (d *Destination) Close() error {
	err := d.store.Close()
	if d.owned {
		d.pool.Close()
	}
	return err
}

// A session is what the sinks of both modes have in common.
type session struct {
	d      *Destination
	key    string
	fence  state.Fence
	scope  *rigatoni.Scope
	schema string               // where tables go whose pattern names none
	own    map[tableName]string // tables of this package's, and what they are for
	log    *slog.Logger

	tables   map[rigatoni.Namespace]*table // that have been looked at
	last     bson.Timestamp                // of the last event that was seen
	replaced map[string]bool               // tables in which U+0000 was, and has been logged
	swept    map[string]string             // how far sweeps have got that failed
	created  []tableName                   // in the transaction of the moment
}

// Open begins a session. It refuses options that don't fit the source, and output that
// doesn't fit the checkpoint; and it makes the tables of collections that the source
// names one by one.
func (d *Destination) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	s := d.session(o)
	if err := d.transact(ctx, func(tx pgx.Tx) error { return s.open(ctx, tx, o) }); err != nil {
		return nil, describeOpening(err)
	}
	s.logCreated()
	if d.opts.Mode == Log {
		return &logSink{s}, nil
	}
	return &mirrorSink{s}, nil
}

// CheckOpening implements [rigatoni.OpeningChecker]: it does what Open does in a
// transaction that is rolled back.
func (d *Destination) CheckOpening(ctx context.Context, o rigatoni.Opening) error {
	s := d.session(o)
	err := d.transact(ctx, func(tx pgx.Tx) error {
		if err := s.open(ctx, tx, o); err != nil {
			return err
		}
		return errRollBack
	})
	if errors.Is(err, errRollBack) {
		return nil
	}
	return describeOpening(err)
}

var errRollBack = errors.New("rolled back on purpose")

func (d *Destination) session(o rigatoni.Opening) *session {
	return &session{
		d: d, key: o.Key, fence: o.Fence, scope: o.Scope, log: d.opts.Logger.With("key", o.Key), last: o.ClusterTime,
		tables: map[rigatoni.Namespace]*table{}, replaced: map[string]bool{}, swept: map[string]string{},
	}
}

// transactAttempts is how often a transaction is tried that another one keeps from
// making the same table or schema.
const transactAttempts = 5

// transact runs do in a transaction in which no lock is waited for for long.
func (d *Destination) transact(ctx context.Context, do func(pgx.Tx) error) (err error) {
	for range transactAttempts {
		if err = d.try(ctx, do); !isRace(sqlState(err)) {
			break
		}
	}
	return err
}

func (d *Destination) try(ctx context.Context, do func(pgx.Tx) error) error {
	tx, err := d.store.BeginTx(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // after a commit it does nothing
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// isRace reports whether a server's error may be that another transaction has made the
// same object, or was in the way.
func isRace(code string) bool {
	return code == "42P07" || code == "42P06" || code == "42710" || code == "23505" || strings.HasPrefix(code, "40")
}

func (s *session) open(ctx context.Context, tx pgx.Tx, o rigatoni.Opening) error {
	s.created = nil
	if err := s.d.checkScope(s.scope); err != nil {
		return err
	}
	if err := s.findSchema(ctx, tx); err != nil {
		return err
	}
	if err := s.d.prepareCatalog(ctx, tx); err != nil {
		return err
	}
	if err := s.findOwn(ctx, tx); err != nil {
		return err
	}
	had, gone, err := s.d.claims(ctx, tx, s.key)
	if err == nil {
		err = s.checkHad(ctx, tx, had, gone)
	}
	if err != nil {
		return err
	}
	if o.FirstStart && !o.AcceptAnyOutput {
		if err := s.checkOutput(ctx, tx, had); err != nil {
			return err
		}
	}
	return s.prepareNamed(ctx, tx)
}

// findSchema finds the schema of tables whose pattern names none.
func (s *session) findSchema(ctx context.Context, tx pgx.Tx) error {
	if s.d.names.schema != "" {
		return nil
	}
	var schema *string
	if err := tx.QueryRow(ctx, "select current_schema()").Scan(&schema); err != nil {
		return err
	}
	if schema == nil {
		return refuse("there is no schema in the search path; write it into the pattern, as in table: public.{collection}")
	}
	s.schema = *schema
	return nil
}

// checkOutput refuses a first start where there are rows of the checkpoint: it looks as
// if the checkpoint had been lost.
func (s *session) checkOutput(ctx context.Context, tx pgx.Tx, had []claim) error {
	var names []string
	for _, c := range had {
		var hasRows bool
		if err := tx.QueryRow(ctx, "select exists (select from "+c.name.String()+")").Scan(&hasRows); err != nil {
			return err
		}
		if hasRows {
			names = append(names, c.name.String())
		}
	}
	if names == nil {
		return nil
	}
	facts := fmt.Sprintf("there are rows of %q in %s", s.key, listed(names))
	return &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: facts + "; restore the checkpoint, or begin at a time before it was lost, which loses nothing: a row never goes back to an earlier version"}
}

// listed lists names, at most five of them.
func listed(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// prepareNamed prepares the tables of the collections that the source names. It refuses
// all that can't be prepared at once.
func (s *session) prepareNamed(ctx context.Context, tx pgx.Tx) error {
	var wrong []error
	for _, ns := range named(s.scope) {
		t, err := s.prepareApart(ctx, tx, ns)
		switch {
		case isPermanent(err):
			wrong = append(wrong, err)
		case err != nil:
			return err
		default:
			s.tables[ns] = t
		}
	}
	return refuseAll(wrong)
}

// prepareApart prepares a table so that the transaction goes on if that fails.
func (s *session) prepareApart(ctx context.Context, tx pgx.Tx, ns rigatoni.Namespace) (*table, error) {
	part, err := tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.prepareTable(ctx, part, ns)
	if err != nil {
		return nil, errors.Join(err, part.Rollback(ctx))
	}
	return t, part.Commit(ctx)
}

// named are the collections that a scope, which may be nil, names one by one.
func named(scope *rigatoni.Scope) (all []rigatoni.Namespace) {
	if scope == nil || scope.Database == "" || isPattern(scope.Database) {
		return nil
	}
	for _, coll := range scope.Collections {
		if !isPattern(coll) {
			all = append(all, rigatoni.Namespace{DB: scope.Database, Coll: coll})
		}
	}
	return all
}

// checkScope refuses options that don't fit what the stream has.
func (d *Destination) checkScope(scope *rigatoni.Scope) error {
	if scope == nil {
		return nil
	}
	one := len(scope.Collections) == 1 && !isPattern(scope.Collections[0])
	updates := len(scope.Operations) == 0 || slices.Contains(scope.Operations, "update")
	switch {
	case updates && scope.FullDocument == "default":
		return rigatoni.Permanent(invalid("%s", errNoFullDocument))
	case !one && !d.names.has("{collection}"):
		return rigatoni.Permanent(invalid("Options.Table is %q, and several collections are watched, which would share a table; write {collection} into it", d.opts.Table))
	case (scope.Database == "" || isPattern(scope.Database)) && !d.names.has("{database}"):
		return rigatoni.Permanent(invalid("Options.Table is %q, and several databases are watched, whose collections of the same name would share a table; write {database} into it, as in public.{database}_{collection}", d.opts.Table))
	}
	return nil
}

// logCreated logs which tables the transaction has created.
func (s *session) logCreated() {
	for _, name := range s.created {
		s.log.Info("table created", "table", name.String())
	}
}

// isPattern reports whether a name of a [rigatoni.Scope] stands for several.
func isPattern(name string) bool { return strings.Contains(name, "*") }

const errNoFullDocument = "updates come without their document, which a row is made of; open the source with full-document: updateLookup (the document as it is when the event is read), or required, for collections that store post-images"
