package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A sweep deletes the rows of a table that are older than a version, or marks them as
// deleted.
type sweep struct {
	table  *table
	before []byte
	at     time.Time // of before
}

// sweepRows is how many rows of a table are looked at in one transaction. While it
// lasts, the lease can't be renewed.
const sweepRows = 5_000

// dropped is what becomes of an event that is about no single document: the tables whose
// rows are to be deleted, or an error that stops.
func (s *session) dropped(ctx context.Context, ev rigatoni.Event) ([]*table, error) {
	op, ns := ev.OperationType(), ev.Namespace()
	switch {
	case op == "invalidate":
		return nil, s.invalidated(ev)
	case op != "drop" && op != "rename" && op != "dropDatabase":
		return nil, refuseEvent("the operation %q is unknown to this version", op)
	}
	affected, err := s.affected(ctx, ev, op, ns)
	switch {
	case err != nil:
		return nil, err
	case s.d.opts.OnDrop == Truncate:
		s.warnOfRename(ev, op)
		return affected, nil
	case op != "rename" && len(affected) == 0:
		return nil, nil
	case s.d.opts.OnDrop == Ignore:
		s.warnOfRename(ev, op)
		s.log.Warn("rows kept of what was dropped or renamed", "operation", op, "namespace", ns.String(), "tables", tableNames(affected))
		return nil, nil
	}
	return nil, s.refuseDrop(ev, op, ns, affected)
}

// warnOfRename says what a rename leaves missing, since nothing else does.
func (s *session) warnOfRename(ev rigatoni.Event, op string) {
	if to := renamedTo(ev); op == "rename" {
		s.log.Warn("documents under the new name of a collection come without events, and are missing in its table; copy it again with rigatoni checkpoint set --snapshot",
			"from", ev.Namespace().String(), "to", to.String())
	}
}

// renamedTo is the new name of a collection, from the event of its rename.
func renamedTo(ev rigatoni.Event) rigatoni.Namespace {
	to, _ := ev.Raw.Lookup("to").DocumentOK()
	db, _ := to.Lookup("db").StringValueOK()
	coll, _ := to.Lookup("coll").StringValueOK()
	return rigatoni.Namespace{DB: db, Coll: coll}
}

// affected are the tables with rows of documents that are not there any more, or not
// under that name.
func (s *session) affected(ctx context.Context, ev rigatoni.Event, op string, ns rigatoni.Namespace) ([]*table, error) {
	of := s.claimOf(ns).ns
	gone := func(c claim) bool { return c.ns == of }
	switch op {
	case "rename": // what had the new name before was dropped with it
		to := s.claimOf(renamedTo(ev)).ns
		gone = func(c claim) bool { return c.ns == to || c.ns == of }
	case "dropDatabase":
		gone = func(c claim) bool { return c.ns.DB == of.DB }
	}
	return s.claimedBy(ctx, gone)
}

// claimedBy are the tables of the checkpoint for which is holds.
func (s *session) claimedBy(ctx context.Context, is func(claim) bool) (tables []*table, err error) {
	var has []claim
	err = s.d.transact(ctx, func(tx pgx.Tx) (err error) {
		has, _, err = s.d.claims(ctx, tx, s.key)
		return err
	})
	for _, c := range has {
		if is(c) {
			tables = append(tables, &table{name: c.name, ns: c.ns})
		}
	}
	return tables, describeOpening(err)
}

func tableNames(tables []*table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name.String()
	}
	return strings.Join(names, ", ")
}

func (s *session) refuseDrop(ev rigatoni.Event, op string, ns rigatoni.Namespace, affected []*table) error {
	what := map[string]string{"drop": "the collection %s was dropped", "rename": "the collection %s was renamed", "dropDatabase": "the database %s was dropped"}[op]
	what = strings.Replace(what, "%s", strconv.Quote(ns.String()), 1)
	if op == "rename" {
		what += " to " + strconv.Quote(renamedTo(ev).String()) + ", whose documents come without events"
	}
	kept := "no table has rows of it"
	if len(affected) > 0 {
		kept = "its rows are in " + tableNames(affected)
	}
	choice := "on-drop: truncate deletes them, and on-drop: ignore keeps them"
	if s.d.opts.Mode == Log {
		choice = "on-drop: ignore goes on, and keeps them"
	}
	at := time.Unix(int64(ev.ClusterTime().T), 0).UTC().Format(time.RFC3339)
	return refuseEvent("%s, at %s; %s; %s", what, at, kept, choice)
}

// invalidated passes over an invalidate: what caused it came right before it, with the
// same time, and was treated as the options say. Without its cause nobody knows what
// became of the rows.
func (s *session) invalidated(ev rigatoni.Event) error {
	if ev.ClusterTime() == s.last && s.last != (bson.Timestamp{}) || s.d.opts.OnDrop == Ignore {
		return nil
	}
	return refuseEvent("the server has ended the stream (invalidate): its collection or database was dropped or renamed, and the source doesn't deliver that event; let it (operations: drop, rename and dropDatabase), or keep the rows with on-drop: ignore")
}

// run deletes, or marks, the rows of one table in steps: each is a transaction that
// checks the fence, since a long one would keep the lease from being renewed. To repeat
// it is harmless; an attempt goes on where the one before has failed.
func (s *session) run(ctx context.Context, w sweep) error {
	id := w.table.name.String() + string(w.before)
	for has := true; has; {
		var last string
		err := s.d.transact(ctx, func(tx pgx.Tx) (err error) {
			if err = s.d.store.FenceTx(ctx, tx, s.key, s.fence); err != nil {
				return err
			}
			last, has, err = s.step(ctx, tx, w, s.swept[id]) // "", before all texts, at the beginning
			return err
		})
		if err != nil {
			return s.blame(ctx, w.table, err)
		}
		s.swept[id] = last
	}
	delete(s.swept, id)
	return nil
}

// step sweeps the rows that follow the _id last, and returns the last one of them.
func (s *session) step(ctx context.Context, tx pgx.Tx, w sweep, last string) (string, bool, error) {
	var end *string
	name := w.table.name.String()
	err := tx.QueryRow(ctx, "select max(_id) from (select _id from "+name+" where _id > $1 order by _id limit $2) t", last, sweepRows).Scan(&end)
	if err != nil || end == nil {
		return "", false, err
	}
	where := " where _id > $1 and _id <= $2 and version < $3"
	if s.d.opts.SoftDelete {
		_, err = tx.Exec(ctx, "update "+name+" set op = 'delete', cluster_time = $4, version = $3"+where+" and op <> 'delete'", last, *end, w.before, w.at)
	} else {
		_, err = tx.Exec(ctx, "delete from "+name+where, last, *end, w.before)
	}
	return *end, true, err
}
