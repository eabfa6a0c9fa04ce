package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A selection is what find, count and their like ask for.
type selection struct {
	filter      *filter
	sort        sortOrder
	skip, limit int
	project     *projection
}

func find(r *request) (*builder, error) {
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
	docs, err := r.selected(ns, sel)
	if err != nil {
		return nil, err
	}
	if docs == nil {
		return r.openListing(ns, nil)
	}
	return r.openList(ns, docs)
}

func (r *request) selection(query string) (sel selection, err error) {
	doc, err := r.document(query)
	if err != nil {
		return sel, err
	}
	if sel.filter, err = compileFilter(doc); err != nil {
		return sel, err
	}
	if doc, err = r.document("sort"); err != nil {
		return sel, err
	}
	if sel.sort, err = compileSort(doc); err != nil {
		return sel, err
	}
	if sel.skip, err = r.count("skip", 0); err != nil {
		return sel, err
	}
	sel.limit, err = r.count("limit", 0)
	return sel, err
}

func (r *request) projection(field string) (*projection, error) {
	doc, err := r.document(field)
	if err != nil || len(fields(doc)) == 0 {
		return nil, err
	}
	return compileProjection(doc)
}

// selected are the documents, or those of the oplog.
func (r *request) selected(ns namespace, sel selection) (docs []bson.Raw, err error) {
	if ns == oplogNamespace {
		return r.server.store.selectOplog(sel)
	}
	err = r.read(func(w *writer) error {
		if w.st.view(ns) != nil {
			return notImitated("reading through a view")
		}
		c := w.collection(ns)
		if c == nil {
			return nil
		}
		docs = []bson.Raw{}
		for _, rec := range c.matching(sel.filter) {
			docs = append(docs, rec.doc)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sel.cut(docs)
}

// cut sorts, skips, limits and projects.
func (sel selection) cut(docs []bson.Raw) ([]bson.Raw, error) {
	sel.sort.sort(docs)
	docs = docs[min(sel.skip, len(docs)):]
	if sel.limit > 0 {
		docs = docs[:min(sel.limit, len(docs))]
	}
	if sel.project == nil {
		return docs, nil
	}
	out := make([]bson.Raw, 0, len(docs))
	for _, doc := range docs {
		p, err := sel.project.apply(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func count(r *request) (*builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	sel, err := r.selection("query")
	if err != nil {
		return nil, err
	}
	docs, err := r.selected(ns, sel)
	return newBuilder().int32("n", len(docs)), err
}

func distinct(r *request) (*builder, error) {
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
	docs, err := r.selected(ns, sel)
	if err != nil {
		return nil, err
	}
	var values []bson.RawValue
	seen := map[string]bool{}
	for _, doc := range docs {
		for _, v := range valuesAt(doc, strings.Split(key, ".")) {
			if v.Type == 0 {
				continue
			}
			for _, item := range spread(v) {
				if c := canonical(item); !seen[c] {
					seen[c] = true
					values = append(values, item)
				}
			}
		}
	}
	slices.SortStableFunc(values, compare)
	return newBuilder().values("values", values), nil
}

func findAndModify(r *request) (*builder, error) {
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
	st.query, _ = r.document("query") // selection has read it
	remove := r.flag("remove", false)
	_, hasUpdate := r.args["update"]
	switch {
	case remove && hasUpdate:
		return nil, failf(codeFailedToParse, "Cannot specify both an update and remove=true")
	case remove && st.upsert:
		return nil, failf(codeFailedToParse, "Cannot specify both upsert=true and remove=true ")
	case remove && r.flag("new", false):
		return nil, failf(codeFailedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	case !remove && !hasUpdate:
		return nil, failf(codeFailedToParse, "Either an update or remove=true must be specified")
	case hasUpdate:
		if st.update, err = compileUpdate(r.args["update"]); err != nil {
			return nil, err
		}
	}
	var reply *builder
	err = r.write(func(w *writer) error {
		reply, err = w.findAndModify(ns, sel, st, r.flag("new", false))
		return err
	})
	return reply, err
}

// findAndModify removes if the statement has no update.
func (w *writer) findAndModify(ns namespace, sel selection, st updateStatement, after bool) (*builder, error) {
	if err := w.st.noView(ns); err != nil {
		return nil, err
	}
	c := w.collection(ns)
	var rec *record
	if c != nil {
		rec = first(c.matching(sel.filter), sel.sort)
	}
	info := newBuilder()
	var value bson.Raw
	switch {
	case rec == nil && st.update != nil && st.upsert:
		doc, err := st.upsertInto(w, ns)
		if err != nil {
			return nil, err
		}
		info.int32("n", 1).bool("updatedExisting", false).value("upserted", doc.Lookup("_id"))
		if after {
			value = doc
		}
	case rec == nil && st.update != nil:
		info.int32("n", 0).bool("updatedExisting", false)
	case rec == nil:
		info.int32("n", 0)
	case st.update == nil:
		if err := w.free(c, rec.id, rec.doc); err != nil {
			return nil, err
		}
		value = rec.doc
		w.delete(c, rec)
		info.int32("n", 1)
	default:
		value = rec.doc
		if _, err := w.apply(c, rec, st.update); err != nil {
			return nil, asCommandError(err).prefixed("Plan executor error during findAndModify :: caused by :: ")
		}
		if after {
			value = rec.doc
		}
		info.int32("n", 1).bool("updatedExisting", true)
	}
	reply := newBuilder().doc("lastErrorObject", info.done())
	if value == nil {
		return reply.null("value"), nil
	}
	if sel.project != nil {
		var err error
		if value, err = sel.project.apply(value); err != nil {
			return nil, err
		}
	}
	return reply.doc("value", value), nil
}

func first(found []*record, order sortOrder) *record {
	if len(found) == 0 {
		return nil
	}
	docs := make([]bson.Raw, len(found))
	for i, rec := range found {
		docs[i] = rec.doc
	}
	order.sort(docs)
	i := slices.IndexFunc(found, func(rec *record) bool { return &rec.doc[0] == &docs[0][0] })
	return found[i]
}
