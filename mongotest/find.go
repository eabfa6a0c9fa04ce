package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// A selection holds the arguments that find, count, distinct and findAndModify
// have in common.
type selection struct {
	filter      *query.Filter
	sort        query.Order
	skip, limit int
	project     *query.Projection
	scan        scan
	at          bson.Timestamp // zero for now
}

func find(r *request) (*bsondoc.Builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	sel, err := r.selection("filter")
	if err != nil {
		return nil, err
	}
	if sel.project, err = r.projection("projection"); err != nil {
		return nil, err
	}
	if sel.scan, err = r.scan(); err != nil {
		return nil, err
	}
	docs, list, err := r.selected(ns, sel)
	if err != nil {
		return nil, err
	}
	if docs == nil {
		return r.openListing(ns, nil)
	}
	return r.openCursor(list, docs)
}

func (r *request) selection(field string) (sel selection, err error) {
	doc, err := r.document(field)
	if err != nil {
		return sel, err
	}
	if sel.filter, err = query.CompileFilter(doc); err != nil {
		return sel, err
	}
	if doc, err = r.document("sort"); err != nil {
		return sel, err
	}
	if sel.sort, err = query.CompileSort(doc); err != nil {
		return sel, err
	}
	if sel.skip, err = r.count("skip", 0); err != nil {
		return sel, err
	}
	sel.at = r.snapshotTime()
	sel.limit, err = r.count("limit", 0)
	return sel, err
}

func (r *request) projection(field string) (*query.Projection, error) {
	doc, err := r.document(field)
	if err != nil || len(bsondoc.Fields(doc)) == 0 {
		return nil, err
	}
	return query.CompileProjection(doc)
}

// selected returns the selected documents of a collection, or of the oplog, and
// the cursor to return them with.
func (r *request) selected(ns namespace, sel selection) (docs []bson.Raw, list *cursor, err error) {
	list = &cursor{ns: ns, at: sel.at}
	if ns == oplogNamespace {
		docs, err = r.server.store.selectOplog(sel)
		return docs, list, err
	}
	err = r.read(func(w *writer) error {
		if w.st.view(ns) != nil {
			return sel.scan.checkView()
		}
		c := w.collection(ns)
		if c != nil && w.txn == nil {
			list.uuid = c.uuid
		}
		docs, err = w.scan(c, sel)
		return err
	})
	if err == nil {
		docs, err = sel.cut(docs)
	}
	return docs, list, err
}

// scan returns a collection's documents that match, nil if there is no
// collection.
func (w *writer) scan(c *collection, sel selection) ([]bson.Raw, error) {
	var past map[string]*record
	if !sel.at.IsZero() {
		if err := w.st.readable(c, sel.at); err != nil || c == nil {
			return nil, err
		}
		past = w.st.oplog.undo(c, sel.at)
	}
	if c == nil {
		return nil, nil
	}
	docs := []bson.Raw{}
	if past == nil && sel.scan.everything() {
		for _, rec := range c.matching(sel.filter) {
			docs = append(docs, rec.doc)
		}
		return docs, nil
	}
	records, err := sel.scan.records(c, past)
	if err != nil {
		return nil, err
	}
	enough := -1
	if sel.limit > 0 && len(sel.sort) == 0 {
		enough = sel.skip + sel.limit
	}
	for _, rec := range records {
		if len(docs) == enough {
			break
		}
		if sel.filter.Match(rec.doc) {
			docs = append(docs, rec.doc)
		}
	}
	return docs, nil
}

// cut sorts documents, applies skip and limit, and projects them.
func (sel selection) cut(docs []bson.Raw) ([]bson.Raw, error) {
	sel.sort.Sort(docs)
	docs = docs[min(sel.skip, len(docs)):]
	if sel.limit > 0 {
		docs = docs[:min(sel.limit, len(docs))]
	}
	if sel.project == nil {
		return docs, nil
	}
	out := make([]bson.Raw, 0, len(docs))
	for _, doc := range docs {
		p, err := sel.project.Apply(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func count(r *request) (*bsondoc.Builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	sel, err := r.selection("query")
	if err != nil {
		return nil, err
	}
	docs, _, err := r.selected(ns, sel)
	return bsondoc.New().Int32("n", len(docs)), err
}

func distinct(r *request) (*bsondoc.Builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	key, ok := r.args["key"].StringValueOK()
	if !ok {
		return nil, r.wrongType("key", r.args["key"], "string")
	}
	sel, err := r.selection("query")
	if err != nil {
		return nil, err
	}
	docs, _, err := r.selected(ns, sel)
	if err != nil {
		return nil, err
	}
	var values []bson.RawValue
	seen := map[string]bool{}
	for _, doc := range docs {
		for _, v := range query.ValuesAt(doc, strings.Split(key, ".")) {
			if v.Type == 0 {
				continue
			}
			for _, item := range bsondoc.Spread(v) {
				if c := bsondoc.Canonical(item); !seen[c] {
					seen[c] = true
					values = append(values, item)
				}
			}
		}
	}
	slices.SortStableFunc(values, bsondoc.Compare)
	reply := bsondoc.New().Values("values", values)
	if !sel.at.IsZero() {
		reply.Timestamp("atClusterTime", sel.at)
	}
	return reply, nil
}

func findAndModify(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	sel, err := r.selection("query")
	if err != nil {
		return nil, err
	}
	if sel.project, err = r.projection("fields"); err != nil {
		return nil, err
	}
	sel.limit = 1
	st := updateStatement{upsert: r.flag("upsert", false)}
	st.query, _ = r.document("query") // selection has checked it
	remove := r.flag("remove", false)
	_, hasUpdate := r.args["update"]
	switch {
	case remove && hasUpdate:
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Cannot specify both an update and remove=true")
	case remove && st.upsert:
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Cannot specify both upsert=true and remove=true ")
	case remove && r.flag("new", false):
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	case !remove && !hasUpdate:
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Either an update or remove=true must be specified")
	case hasUpdate:
		if st.update, err = query.CompileUpdate(r.args["update"]); err != nil {
			return nil, err
		}
	}
	var reply *bsondoc.Builder
	err = r.write(func(w *writer) error {
		reply, err = w.findAndModify(ns, sel, st, r.flag("new", false))
		return err
	})
	return reply, err
}

// findAndModify removes the document if the statement has no update.
func (w *writer) findAndModify(ns namespace, sel selection, st updateStatement, after bool) (*bsondoc.Builder, error) {
	if err := w.st.ordinary(ns); err != nil {
		return nil, err
	}
	c := w.collection(ns)
	var rec *record
	if c != nil {
		rec = first(c.matching(sel.filter), sel.sort)
	}
	info := bsondoc.New()
	var value bson.Raw
	switch {
	case rec == nil && st.update != nil && st.upsert:
		doc, err := st.upsertInto(w, ns)
		if err != nil {
			return nil, err
		}
		info.Int32("n", 1).Bool("updatedExisting", false).Value("upserted", doc.Lookup("_id"))
		if after {
			value = doc
		}
	case rec == nil && st.update != nil:
		info.Int32("n", 0).Bool("updatedExisting", false)
	case rec == nil:
		info.Int32("n", 0)
	case st.update == nil:
		if err := w.free(c, rec.id, rec.doc); err != nil {
			return nil, err
		}
		value = rec.doc
		w.delete(c, rec)
		info.Int32("n", 1)
	default:
		value = rec.doc
		if _, err := w.apply(c, rec, st.update); err != nil {
			return nil, cmderr.From(err).Prefixed("Plan executor error during findAndModify :: caused by :: ")
		}
		if after {
			value = rec.doc
		}
		info.Int32("n", 1).Bool("updatedExisting", true)
	}
	reply := bsondoc.New().Doc("lastErrorObject", info.Done())
	if value == nil {
		return reply.Null("value"), nil
	}
	if sel.project != nil {
		var err error
		if value, err = sel.project.Apply(value); err != nil {
			return nil, err
		}
	}
	return reply.Doc("value", value), nil
}

func first(found []*record, order query.Order) *record {
	if len(found) == 0 {
		return nil
	}
	docs := make([]bson.Raw, len(found))
	for i, rec := range found {
		docs[i] = rec.doc
	}
	order.Sort(docs)
	i := slices.IndexFunc(found, func(rec *record) bool { return &rec.doc[0] == &docs[0][0] })
	return found[i]
}
