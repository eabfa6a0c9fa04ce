package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

const maxWriteBatch = 100_000

func crudCommands() map[string]*command {
	all := map[string]*command{
		"insert": {run: insert, write: true, retryable: true, txn: true,
			fields: []string{"documents", "ordered", "bypassDocumentValidation"}},
		"update": {run: updateCommand, write: true, retryable: true, txn: true,
			fields: []string{"updates", "ordered", "bypassDocumentValidation"}, others: []string{"let"}},
		"delete": {run: deleteCommand, write: true, retryable: true, txn: true,
			fields: []string{"deletes", "ordered"}, others: []string{"let"}},
		"find": {run: find, read: true, txn: true,
			fields: []string{"filter", "sort", "projection", "skip", "limit", "batchSize", "singleBatch", "hint", "min", "max", "allowDiskUse", "noCursorTimeout", "allowPartialResults"},
			others: []string{"collation", "let", "returnKey", "showRecordId", "tailable", "awaitData", "oplogReplay"}},
		"count":    {run: count, read: true, fields: []string{"query", "limit", "skip", "hint", "fields"}, others: []string{"collation"}},
		"distinct": {run: distinct, read: true, txn: true, fields: []string{"key", "query"}, others: []string{"collation", "hint"}},
		"findAndModify": {run: findAndModify, write: true, retryable: true, txn: true,
			fields: []string{"query", "sort", "remove", "update", "new", "fields", "upsert", "bypassDocumentValidation", "hint"},
			others: []string{"collation", "arrayFilters", "let"}},
	}
	all["findandmodify"] = all["findAndModify"]
	return all
}

// batch runs the n statements of a write command in order, and collects the
// errors of those that fail.
func (r *request) batch(ns namespace, n int, statement func(w *writer, i int) error) (errs []bson.Raw, err error) {
	if n == 0 || n > maxWriteBatch {
		return nil, cmderr.Errorf(16, "Write batch sizes must be between 1 and %d. Got %d operations.", maxWriteBatch, n)
	}
	ordered := r.flag("ordered", true)
	err = r.write(func(w *writer) error {
		for i := range n {
			err := w.st.ordinary(ns)
			if err == nil {
				err = statement(w, i)
			}
			if err == nil {
				continue
			}
			e := cmderr.From(err)
			if r.txn != nil && e.Code == cmderr.WriteConflict {
				return e
			}
			errs = append(errs, e.WriteError(i))
			if r.txn != nil {
				r.txn.abort()
			}
			if ordered || r.txn != nil {
				break
			}
		}
		return nil
	})
	return errs, err
}

func withWriteErrors(d *bsondoc.Builder, errs []bson.Raw) *bsondoc.Builder {
	if len(errs) > 0 {
		d.Docs("writeErrors", errs)
	}
	return d
}

func insert(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	docs, err := r.documents("documents")
	if err != nil {
		return nil, err
	}
	n := 0
	errs, err := r.batch(ns, len(docs), func(w *writer, i int) error {
		doc, err := insertable(docs[i])
		if err != nil {
			return err
		}
		if err := w.insert(w.ensure(ns), doc); err != nil {
			return err
		}
		n++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return withWriteErrors(bsondoc.New().Int32("n", n), errs), nil
}

// writable returns the command's namespace if documents can be written there.
func (r *request) writable() (namespace, error) {
	ns, err := r.namespace()
	switch {
	case err != nil:
		return ns, err
	case ns.db == "local" && strings.HasPrefix(ns.coll, "oplog."):
		return ns, cmderr.Unsupported("writes to the oplog")
	case ns.coll == viewsName:
		return ns, cmderr.Unsupported("writes to " + viewsName)
	}
	return ns, nil
}

// insertable returns a document with its _id in front, a new one if it has
// none.
func insertable(doc bson.Raw) (bson.Raw, error) {
	id := doc.Lookup("_id")
	if err := query.CheckID(id); err != nil {
		return nil, err
	}
	if id.Type == 0 {
		doc = bsondoc.New().ObjectID("_id", bson.NewObjectID()).Append(doc).Done()
	}
	doc = query.IDFirst(doc)
	if len(doc) > bsondoc.MaxSize {
		return nil, cmderr.Errorf(cmderr.BadValue, "object to insert too large. size in bytes: %d, max size: %d", len(doc), bsondoc.MaxSize)
	}
	return doc, nil
}

// statementFields refuses unknown and unsupported fields of a statement of an
// update or delete.
func statementFields(where string, doc bson.Raw, known string, others string) error {
	for _, e := range bsondoc.Fields(doc) {
		switch name := e.Key(); {
		case strings.Contains(known, " "+name+" "):
		case !strings.Contains(others, " "+name+" "):
			return cmderr.Errorf(cmderr.UnknownField, "BSON field '%s.%s' is an unknown field.", where, name)
		case !isUnset(e.Value()):
			return cmderr.Unsupported("the option '" + name + "' of " + where)
		}
	}
	return nil
}

func updateCommand(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	docs, err := r.documents("updates")
	if err != nil {
		return nil, err
	}
	for _, doc := range docs {
		if err := checkUpdate(doc); err != nil {
			return nil, err
		}
	}
	n, modified := 0, 0
	var upserted []bson.Raw
	errs, err := r.batch(ns, len(docs), func(w *writer, i int) error {
		st, err := readUpdate(docs[i])
		if err != nil {
			return err
		}
		matched, changed, id, err := st.run(w, ns)
		n, modified = n+matched, modified+changed
		if id.Type != 0 {
			n++
			upserted = append(upserted, bsondoc.New().Int32("index", i).Value("_id", id).Done())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d := bsondoc.New().Int32("n", n)
	if upserted != nil {
		d.Docs("upserted", upserted)
	}
	return withWriteErrors(d, errs).Int32("nModified", modified), nil
}

// checkUpdate returns the errors that fail the whole command and not just one
// statement.
func checkUpdate(doc bson.Raw) error {
	if err := statementFields("update.updates", doc, " q u multi upsert hint ", " arrayFilters collation c "); err != nil {
		return err
	}
	u, err := doc.LookupErr("u")
	switch {
	case err != nil:
		return cmderr.Missing("update.updates", "u")
	case u.Type != bson.TypeEmbeddedDocument && u.Type != bson.TypeArray:
		return cmderr.Errorf(cmderr.FailedToParse, "Update argument must be either an object or an array")
	}
	if err := query.CheckStageNames(bsondoc.Items(u)); err != nil {
		return err
	}
	return checkQuery("update.updates", doc)
}

// checkQuery refuses a statement without a query.
func checkQuery(where string, statement bson.Raw) error {
	q := statement.Lookup("q")
	if q.Type == 0 || q.Type == bson.TypeNull {
		return cmderr.Missing(where, "q")
	}
	_, err := documentField(where, "q", q)
	return err
}

func readUpdate(doc bson.Raw) (updateStatement, error) {
	st := updateStatement{multi: bsondoc.Truth(doc.Lookup("multi"), false), upsert: bsondoc.Truth(doc.Lookup("upsert"), false)}
	st.query = doc.Lookup("q").Document() // checkUpdate has checked it
	var err error
	st.update, err = query.CompileUpdate(doc.Lookup("u"))
	return st, err
}

// An updateStatement is one element of a command's updates.
type updateStatement struct {
	query         bson.Raw
	update        *query.Update
	multi, upsert bool
}

func (st updateStatement) run(w *writer, ns namespace) (matched, changed int, upserted bson.RawValue, err error) {
	if st.multi && st.update.IsReplacement() {
		return 0, 0, upserted, cmderr.Errorf(cmderr.FailedToParse, "multi update is not supported for replacement-style update")
	}
	f, err := query.CompileFilter(st.query)
	if err != nil {
		return 0, 0, upserted, err
	}
	c := w.collection(ns)
	var found []*record
	if c != nil {
		found = c.matching(f)
	}
	if len(found) > 1 && !st.multi {
		found = found[:1]
	}
	for _, rec := range found {
		matched++
		did, err := w.apply(c, rec, st.update)
		if err != nil {
			return 0, changed, upserted, err
		}
		if did {
			changed++
		}
	}
	if len(found) == 0 && st.upsert {
		doc, err := st.upsertInto(w, ns)
		if err != nil {
			return 0, 0, upserted, err
		}
		upserted = doc.Lookup("_id")
	}
	return matched, changed, upserted, nil
}

// apply updates one record. It returns false if nothing changes, which makes no
// event; a replacement always makes one.
func (w *writer) apply(c *collection, rec *record, u *query.Update) (bool, error) {
	if err := w.free(c, rec.id, rec.doc); err != nil {
		return false, err
	}
	after, ch, err := u.Apply(rec.doc, false)
	if err != nil {
		return false, err
	}
	if ch != nil && ch.Empty() {
		return false, nil
	}
	if err := w.update(c, rec, after, ch); err != nil {
		return false, err
	}
	return true, nil
}

// upsertInto inserts the document that an upsert makes of its query and update.
func (st updateStatement) upsertInto(w *writer, ns namespace) (bson.Raw, error) {
	base, err := query.Seed(st.query)
	if err != nil {
		return nil, err
	}
	if st.update.IsReplacement() {
		id := bsondoc.New()
		if v := base.Lookup("_id"); v.Type != 0 {
			id.Value("_id", v)
		}
		base = id.Done()
	}
	doc, _, err := st.update.Apply(base, true)
	if err != nil {
		return nil, err
	}
	if doc, err = insertable(doc); err != nil {
		return nil, err
	}
	return doc, w.insert(w.ensure(ns), doc)
}

func deleteCommand(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	docs, err := r.documents("deletes")
	if err != nil {
		return nil, err
	}
	for _, doc := range docs {
		if err := checkDelete(doc); err != nil {
			return nil, err
		}
	}
	n := 0
	errs, err := r.batch(ns, len(docs), func(w *writer, i int) error {
		deleted, err := w.deleteMatching(ns, docs[i])
		n += deleted
		return err
	})
	if err != nil {
		return nil, err
	}
	return withWriteErrors(bsondoc.New().Int32("n", n), errs), nil
}

func checkDelete(doc bson.Raw) error {
	if err := statementFields("delete.deletes", doc, " q limit hint ", " collation "); err != nil {
		return err
	}
	if n, isInt := bsondoc.Int(doc.Lookup("limit")); !isInt || n != 0 && n != 1 {
		return cmderr.Errorf(cmderr.FailedToParse, "The limit field in delete objects must be 0 or 1. Got %s", bsondoc.Shell(doc.Lookup("limit")))
	}
	return checkQuery("delete.deletes", doc)
}

func (w *writer) deleteMatching(ns namespace, statement bson.Raw) (n int, err error) {
	f, err := query.CompileFilter(statement.Lookup("q").Document())
	if err != nil {
		return 0, err
	}
	c := w.collection(ns)
	if c == nil {
		return 0, nil
	}
	found := c.matching(f)
	if limit, _ := bsondoc.Int(statement.Lookup("limit")); limit == 1 && len(found) > 1 {
		found = found[:1]
	}
	for _, rec := range found {
		if err := w.free(c, rec.id, rec.doc); err != nil {
			return n, err
		}
		w.delete(c, rec)
		n++
	}
	return n, nil
}
