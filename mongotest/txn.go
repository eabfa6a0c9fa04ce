package mongotest

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A transaction works on copies of the collections that it uses, made on first
// use. When it commits, its changes are applied to the store, all at the same
// time, if nobody else has changed the same documents.
type transaction struct {
	number  int64
	session *session
	state   txnState
	colls   map[namespace]*collection
	changes []*entry
	lsid    bson.Raw
}

type txnState int

const (
	txnOpen txnState = iota
	txnCommitted
	txnAborted
)

func transactionCommands() map[string]*command {
	return map[string]*command{
		"commitTransaction": {run: commitTransaction, txn: true, write: true, fields: []string{"recoveryToken"}},
		"abortTransaction":  {run: abortTransaction, txn: true, write: true, fields: []string{"recoveryToken"}},
	}
}

// joinTransaction returns the transaction that a command is part of, or begins
// it.
func (st *store) joinTransaction(r *request) error {
	if r.name == "create" || r.name == "createIndexes" {
		return cmderr.Unsupported(r.name + " in a transaction")
	}
	if isWatch(r) {
		return cmderr.Errorf(cmderr.NotPermittedInTxn, "Operation not permitted in transaction :: caused by :: Aggregation stage $changeStream "+
			"cannot run within a multi-document transaction.")
	}
	if !r.cmd.txn {
		return cmderr.Errorf(cmderr.NotPermittedInTxn, "Cannot run '%s' in a multi-document transaction.", r.name)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	current := r.session.txn
	switch {
	case r.flag("startTransaction", false) && r.txnNumber < r.session.txnNumber:
		return cmderr.Errorf(cmderr.TransactionTooOld, "Cannot start transaction with { txnNumber: %d } on session %s because a newer transaction with "+
			"txnNumberAndRetryCounter { txnNumber: %d, txnRetryCounter: 0 } has already started on this session.", r.txnNumber, sessionText(r.sessionName()), r.session.txnNumber)
	case r.txnNumber < r.session.txnNumber || current != nil && r.txnNumber < current.number:
		return tooOld(r.txnNumber, max(r.session.txnNumber, 0))
	case r.flag("startTransaction", false):
		if current != nil && current.number == r.txnNumber {
			return cmderr.Errorf(cmderr.ConflictingOperation, "Transaction %d already started", r.txnNumber)
		}
		if current != nil && current.state == txnOpen {
			current.abort()
		}
		current = &transaction{number: r.txnNumber, session: r.session, colls: map[namespace]*collection{}, lsid: withUser(r.lsid)}
		r.session.txn, r.session.txnNumber, r.session.reply = current, r.txnNumber, nil
		st.txns = append(slices.DeleteFunc(st.txns, func(t *transaction) bool { return t.state != txnOpen }), current)
	case current == nil || current.number != r.txnNumber:
		return cmderr.Errorf(cmderr.NoSuchTransaction, "Given transaction number %d does not match any in-progress transactions. The active transaction number is %d",
			r.txnNumber, r.session.txnNumber).Label("TransientTransactionError")
	case current.state == txnAborted:
		return cmderr.Errorf(cmderr.NoSuchTransaction, "Transaction with { txnNumber: %d } has been aborted.", r.txnNumber).Label("TransientTransactionError")
	case current.state == txnCommitted && r.name != "commitTransaction":
		return cmderr.Errorf(cmderr.TransactionCommitted, "Transaction %d has been committed.", r.txnNumber)
	}
	r.txn = current
	return nil
}

// withUser returns a session's identifier as in events: with the digest of the
// user's name, which is empty.
func withUser(lsid bson.Raw) bson.Raw {
	nobody := nobodyDigest()
	return bsondoc.New().Value("id", lsid.Lookup("id")).Binary("uid", bson.TypeBinaryGeneric, nobody[:]).Done()
}

// collection returns the transaction's copy.
func (t *transaction) collection(st *store, ns namespace) *collection {
	if c := t.colls[ns]; c != nil {
		return c
	}
	c := st.colls[ns]
	if c == nil {
		return nil
	}
	t.colls[ns] = c.copy()
	return t.colls[ns]
}

// free refuses a write of a transaction to a document that was changed by
// others since the transaction began to read, or that another transaction is
// changing. base is the document that the transaction sees, nil if there is
// none.
func (w *writer) free(c *collection, id string, base bson.Raw) error {
	if w.txn == nil || w.txn.wrote(c.ns, id) {
		return nil
	}
	live := w.st.colls[c.ns]
	if live == nil || live.uuid != c.uuid || !live.holds(id, base) {
		return conflict()
	}
	if slices.ContainsFunc(w.st.txns, func(t *transaction) bool { return t.wrote(c.ns, id) }) {
		return conflict()
	}
	return nil
}

// holds reports whether a document is still the very one that was read; nil
// means none.
func (c *collection) holds(id string, doc bson.Raw) bool {
	rec := c.byID[id]
	if rec == nil || doc == nil {
		return rec == nil && doc == nil
	}
	return &rec.doc[0] == &doc[0]
}

func conflict() *cmderr.Error {
	return cmderr.Errorf(cmderr.WriteConflict, "WriteConflict error: this operation conflicted with another operation. Please retry your operation or multi-document transaction.").
		Label("TransientTransactionError")
}

func (t *transaction) wrote(ns namespace, id string) bool {
	for _, e := range t.changes {
		if e.ns == ns && bsondoc.Canonical(e.key.Lookup("_id")) == id {
			return true
		}
	}
	return false
}

func (t *transaction) abort() {
	t.state, t.colls, t.changes = txnAborted, nil, nil
}

// failTransaction aborts the transaction of a command that failed.
func (st *store) failTransaction(r *request, e *cmderr.Error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.txn.state == txnOpen {
		r.txn.abort()
	}
	return e
}

// abandon aborts a session's transaction, if one is open.
func (st *store) abandon(s *session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.txn != nil && s.txn.state == txnOpen {
		s.txn.abort()
	}
}

// checkEnd refuses to end a transaction that does not exist.
func (r *request) checkEnd() error {
	switch {
	case r.db != "admin":
		return cmderr.Errorf(cmderr.Unauthorized, "%s may only be run against the admin database.", r.name)
	case r.txn == nil:
		return cmderr.Errorf(cmderr.CommandFailed, "%s must be run within a transaction", r.name)
	}
	return nil
}

func abortTransaction(r *request) (*bsondoc.Builder, error) {
	if err := r.checkEnd(); err != nil {
		return nil, err
	}
	return bsondoc.New(), r.write(func(*writer) error {
		r.txn.abort()
		return nil
	})
}

func commitTransaction(r *request) (*bsondoc.Builder, error) {
	if err := r.checkEnd(); err != nil {
		return nil, err
	}
	return bsondoc.New(), r.write(func(w *writer) error {
		if r.txn.state == txnCommitted {
			return nil // a retry, because the reply was lost
		}
		if err := w.st.commit(r.txn); err != nil {
			return err
		}
		r.txn.state, r.txn.colls, r.txn.changes = txnCommitted, nil, nil
		return nil
	})
}

// commit applies a transaction's changes, after checking that all of them can
// be applied.
func (st *store) commit(t *transaction) error {
	if len(t.changes) == 0 {
		return nil
	}
	if err := st.check(t); err != nil {
		return err
	}
	ts, wall := st.tick(), time.Now()
	oversize := st.oversizeNext
	st.oversizeNext = false
	for i, e := range t.changes {
		if err := st.colls[e.ns].redo(e); err != nil {
			return err
		}
		e.ts, e.wall, e.txnIndex, e.txnNumber, e.lsid = ts, wall, i, t.number, t.lsid
		e.oversize = oversize && i == 0
		st.oplog.append(e)
	}
	return nil
}

// check compares the documents that the transaction read with the current ones.
func (st *store) check(t *transaction) error {
	seen := map[namespace]map[string]bool{}
	for _, e := range t.changes {
		live := st.colls[e.ns]
		if live == nil || live.uuid != e.uuid {
			return conflict()
		}
		id := bsondoc.Canonical(e.key.Lookup("_id"))
		if seen[e.ns] == nil {
			seen[e.ns] = map[string]bool{}
		}
		if seen[e.ns][id] {
			continue // changed before by the transaction itself
		}
		seen[e.ns][id] = true
		if !live.holds(id, e.base) {
			return conflict()
		}
	}
	return st.checkUnique(t)
}

// checkUnique tries the changes on collections that have unique indexes.
func (st *store) checkUnique(t *transaction) error {
	trial := map[namespace]*collection{}
	for _, e := range t.changes {
		ns := e.ns
		if len(st.colls[ns].indexes) == 0 {
			continue
		}
		if trial[ns] == nil {
			trial[ns] = st.colls[ns].copy()
		}
		if err := trial[ns].redo(e); err != nil {
			return conflict()
		}
	}
	return nil
}

// redo applies an entry, and gives it the number of its record here.
func (c *collection) redo(e *entry) error {
	id := bsondoc.Canonical(e.key.Lookup("_id"))
	if e.kind == opInsert {
		if err := c.add(e.doc); err != nil {
			return err
		}
	}
	rec := c.byID[id]
	e.number = rec.number
	switch e.kind {
	case opInsert:
		return nil
	case opDelete:
		c.remove(rec)
		return nil
	}
	return c.set(rec, e.doc)
}
