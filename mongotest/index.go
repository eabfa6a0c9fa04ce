package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An index only keeps what is unique unique. Queries look at every document.
type index struct {
	name   string
	spec   bson.Raw // as listIndexes shows it
	key    bson.Raw
	paths  [][]string
	unique bool
	sparse bool
	taken  map[string]*record // by canonical key, of a unique one
}

// idIndex is the one that every collection has.
var idIndex = newIndex("_id_", newBuilder().value("_id", intValue(1)).done(), emptyDoc)

func newIndex(name string, key, options bson.Raw) *index {
	spec := newBuilder().int32("v", 2).doc("key", key).str("name", name)
	for _, e := range fields(options) {
		if k := e.Key(); k != "v" && k != "key" && k != "name" && k != "ns" {
			spec.value(k, e.Value())
		}
	}
	ix := &index{
		name: name, key: key, spec: spec.done(), taken: map[string]*record{},
		unique: truth(options.Lookup("unique"), false), sparse: truth(options.Lookup("sparse"), false),
	}
	for _, e := range fields(key) {
		ix.paths = append(ix.paths, strings.Split(e.Key(), "."))
	}
	return ix
}

// empty is the index without its entries.
func (ix *index) empty() *index {
	c := *ix
	c.taken = map[string]*record{}
	return &c
}

// keys are a document's entries. An array gives one for each of its elements.
func (ix *index) keys(doc bson.Raw) []string {
	keys := []string{""}
	present := false
	for _, path := range ix.paths {
		parts := map[string]bool{}
		for _, v := range valuesAt(doc, path) {
			present = present || v.Type != 0
			for _, item := range spread(v) {
				parts[canonical(item)] = true
			}
		}
		var longer []string
		for _, k := range keys {
			for p := range parts {
				longer = append(longer, k+p)
			}
		}
		keys = longer
	}
	if ix.sparse && !present {
		return nil
	}
	return keys
}

// index enters a record into the unique indexes, into all of them or none.
func (c *collection) index(rec *record) error {
	for _, ix := range c.indexes {
		if !ix.unique {
			continue
		}
		for _, k := range ix.keys(rec.doc) {
			if other := ix.taken[k]; other != nil && other != rec {
				return duplicate(c.ns, ix, rec.doc, k)
			}
		}
	}
	for _, ix := range c.indexes {
		if ix.unique {
			for _, k := range ix.keys(rec.doc) {
				ix.taken[k] = rec
			}
		}
	}
	return nil
}

func (c *collection) unindex(rec *record) {
	for _, ix := range c.indexes {
		if ix.unique {
			for _, k := range ix.keys(rec.doc) {
				delete(ix.taken, k)
			}
		}
	}
}

// duplicate is the error that names the key that is there already, which is
// one of the document's.
func duplicate(ns namespace, ix *index, doc bson.Raw, key string) *commandError {
	value := newBuilder()
	for i, e := range fields(ix.key) {
		for _, v := range valuesAt(doc, ix.paths[i]) {
			if part := ix.part(v, key); part != nil {
				value.value(e.Key(), *part)
				key = strings.TrimPrefix(key, canonical(*part))
				break
			}
		}
	}
	doc = value.done()
	e := failf(codeDuplicateKey, "E11000 duplicate key error collection: %s index: %s dup key: %s", ns, ix.name, shellDoc(doc))
	e.extra = newBuilder().doc("keyPattern", ix.key).doc("keyValue", doc).done()
	return e
}

// part is the value, or the element of it, with which a key begins.
func (ix *index) part(v bson.RawValue, key string) *bson.RawValue {
	for _, item := range spread(v) {
		if strings.HasPrefix(key, canonical(item)) {
			return &item
		}
	}
	return nil
}

// stored is the index as events and error messages have it: with "unique"
// before the key.
func (ix *index) stored() bson.Raw {
	d, rest := newBuilder(), newBuilder()
	for _, e := range fields(ix.spec) {
		if k := e.Key(); k == "v" || k == "unique" {
			d.value(k, e.Value())
		} else {
			rest.value(k, e.Value())
		}
	}
	return d.append(rest.done()).done()
}

// logIndexes tells of indexes that were made or dropped.
func (w *writer) logIndexes(c *collection, kind string, list ...*index) {
	var specs []bson.Raw
	for _, ix := range list {
		specs = append(specs, ix.stored())
	}
	w.describe(c, kind, newBuilder().docs("indexes", specs).done())
}

func createIndexes(r *request) (*builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	specs, err := r.documents("indexes")
	if err != nil {
		return nil, err
	}
	if len(specs) == 0 {
		return nil, failf(codeBadValue, "Must specify at least one index to create")
	}
	var wanted []*index
	for _, spec := range specs {
		ix, err := parseIndex(spec)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, ix)
	}
	reply := newBuilder()
	return reply, r.write(func(w *writer) error {
		if err := w.st.noView(ns); err != nil {
			return err
		}
		created := w.collection(ns) == nil
		c := w.ensure(ns)
		before := len(c.indexes)
		for _, ix := range wanted {
			if err := c.createIndex(ix); err != nil {
				c.indexes = c.indexes[:before]
				return err
			}
		}
		made := c.indexes[before:]
		reply.int32("numIndexesBefore", before+1).int32("numIndexesAfter", len(c.indexes)+1)
		if len(made) == 0 {
			reply.str("note", "all indexes already exist")
			return nil
		}
		reply.bool("createdCollectionAutomatically", created).str("commitQuorum", "votingMembers")
		if len(made) < len(wanted) {
			reply.str("note", "index already exists")
		}
		if len(c.byID) > 0 {
			w.logIndexes(c, opCreateIndexes, made...) // built together, of what is there
			return nil
		}
		for _, ix := range made {
			w.logIndexes(c, opCreateIndexes, ix)
		}
		return nil
	})
}

func parseIndex(spec bson.Raw) (*index, error) {
	key, ok := spec.Lookup("key").DocumentOK()
	if !ok {
		return nil, failf(codeFailedToParse, "Error in specification %s :: caused by :: The 'key' field is a required property of an index specification", shellDoc(spec))
	}
	name, ok := spec.Lookup("name").StringValueOK()
	if !ok {
		return nil, failf(codeFailedToParse, "Error in specification %s :: caused by :: The 'name' field is a required property of an index specification", shellDoc(spec))
	}
	for _, e := range fields(spec) {
		switch e.Key() {
		case "key", "name", "v", "unique", "sparse", "background", "ns":
		case "expireAfterSeconds":
			return nil, notImitated("indexes that remove documents by their age")
		case "partialFilterExpression", "collation", "weights", "default_language", "hidden", "wildcardProjection", "storageEngine", "clustered":
			return nil, notImitated("the index option '" + e.Key() + "'")
		default:
			return nil, failf(197, "Error in specification %s :: caused by :: The field '%s' is not valid for an index specification. Specification: %s",
				shellDoc(spec), e.Key(), shellDoc(spec))
		}
	}
	if len(fields(key)) == 0 {
		return nil, failf(67, "Error in specification %s :: caused by :: Index keys cannot be empty.", shellDoc(spec))
	}
	for _, e := range fields(key) {
		if n, isNum := asFloat(e.Value()); !isNum || n == 0 || strings.Contains(e.Key(), "$") {
			return nil, notImitated("indexes of the kind " + shellDoc(key))
		}
	}
	return newIndex(name, key, spec), nil
}

func (c *collection) createIndex(ix *index) error {
	if compareDocs(ix.key, idIndex.key) == 0 {
		return nil // there already, under whatever name
	}
	for _, have := range c.indexes {
		sameKey := compareDocs(have.key, ix.key) == 0
		same := sameKey && have.unique == ix.unique && have.sparse == ix.sparse
		switch {
		case have.name == ix.name && same:
			return nil
		case have.name == ix.name:
			return failf(codeIndexKeySpecsConflict, "An existing index has the same name as the requested index. When index names are not "+
				"specified, they are auto generated and can cause conflicts. Please refer to our documentation. Requested index: %s, "+
				"existing index: %s", shellDoc(ix.stored()), shellDoc(have.stored()))
		case same:
			return failf(codeIndexOptionsConflict, "Index already exists with a different name: %s", have.name)
		}
	}
	if ix.unique {
		for rec := range c.all {
			for _, k := range ix.keys(rec.doc) {
				if ix.taken[k] != nil && ix.taken[k] != rec {
					return duplicate(c.ns, ix, rec.doc, k).prefixed("Index build failed: " + bsonUUID(newUUID()) + ": Collection " + c.ns.String() + " ( " + bsonUUID(c.uuid) + " ) :: caused by :: ")
				}
				ix.taken[k] = rec
			}
		}
	}
	c.indexes = append(c.indexes, ix)
	return nil
}

func dropIndexes(r *request) (*builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	name, ok := r.args["index"].StringValueOK()
	if !ok {
		return nil, notImitated("dropIndexes by anything but a name or '*'")
	}
	reply := newBuilder()
	return reply, r.write(func(w *writer) error {
		if err := w.st.noView(ns); err != nil {
			return err
		}
		c := w.collection(ns)
		if c == nil {
			return failf(codeNamespaceNotFound, "ns not found %s", ns)
		}
		reply.int32("nIndexesWas", len(c.indexes)+1)
		if name == "_id_" {
			return failf(codeInvalidOptions, "cannot drop _id index")
		}
		var kept, dropped []*index
		for _, ix := range c.indexes {
			if ix.name == name || name == "*" {
				dropped = append(dropped, ix)
			} else {
				kept = append(kept, ix)
			}
		}
		if dropped == nil && name != "*" {
			return failf(codeIndexNotFound, "index not found with name [%s]", name)
		}
		c.indexes = kept
		for _, ix := range dropped {
			w.logIndexes(c, opDropIndexes, ix)
		}
		if name == "*" {
			reply.str("msg", "non-_id indexes dropped for collection")
		}
		return nil
	})
}

func listIndexes(r *request) (*builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	err = r.read(func(w *writer) error {
		if err := w.st.noView(ns); err != nil {
			return err
		}
		c := w.collection(ns)
		if c == nil {
			return failf(codeNamespaceNotFound, "ns does not exist: %s", ns)
		}
		docs = append(docs, idIndex.spec)
		for _, ix := range c.indexes {
			docs = append(docs, ix.spec)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.openListing(ns, docs)
}
