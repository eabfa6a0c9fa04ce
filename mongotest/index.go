package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// An index only enforces uniqueness. Queries scan all documents.
type index struct {
	name   string
	spec   bson.Raw // as in the reply of listIndexes
	key    bson.Raw
	paths  [][]string
	unique bool
	sparse bool
	taken  map[string]*record // by canonical key, of a unique one
}

// idIndex is the index that every collection has.
var idIndex = newIndex("_id_", bsondoc.New().Value("_id", bsondoc.Int32(1)).Done(), bsondoc.Empty)

func newIndex(name string, key, options bson.Raw) *index {
	spec := bsondoc.New().Int32("v", 2).Doc("key", key).Str("name", name)
	for _, e := range bsondoc.Fields(options) {
		if k := e.Key(); k != "v" && k != "key" && k != "name" && k != "ns" {
			spec.Value(k, e.Value())
		}
	}
	ix := &index{
		name: name, key: key, spec: spec.Done(), taken: map[string]*record{},
		unique: bsondoc.Truth(options.Lookup("unique"), false), sparse: bsondoc.Truth(options.Lookup("sparse"), false),
	}
	for _, e := range bsondoc.Fields(key) {
		ix.paths = append(ix.paths, strings.Split(e.Key(), "."))
	}
	return ix
}

// empty returns the index without its entries.
func (ix *index) empty() *index {
	c := *ix
	c.taken = map[string]*record{}
	return &c
}

// keys returns a document's entries; an array has one for each of its elements.
func (ix *index) keys(doc bson.Raw) []string {
	keys := []string{""}
	present := false
	for _, path := range ix.paths {
		parts := map[string]bool{}
		for _, v := range query.ValuesAt(doc, path) {
			present = present || v.Type != 0
			for _, item := range bsondoc.Spread(v) {
				parts[bsondoc.Canonical(item)] = true
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

// index adds a record to all unique indexes, or to none of them.
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

// duplicate returns the error that names the duplicate key, which is one of the
// document's.
func duplicate(ns namespace, ix *index, doc bson.Raw, key string) *cmderr.Error {
	value := bsondoc.New()
	for i, e := range bsondoc.Fields(ix.key) {
		for _, v := range query.ValuesAt(doc, ix.paths[i]) {
			if part := ix.part(v, key); part != nil {
				value.Value(e.Key(), *part)
				key = strings.TrimPrefix(key, bsondoc.Canonical(*part))
				break
			}
		}
	}
	doc = value.Done()
	e := cmderr.Errorf(cmderr.DuplicateKey, "E11000 duplicate key error collection: %s index: %s dup key: %s", ns, ix.name, bsondoc.ShellDoc(doc))
	e.Extra = bsondoc.New().Doc("keyPattern", ix.key).Doc("keyValue", doc).Done()
	return e
}

// part returns the value, or the element of it, that a key begins with.
func (ix *index) part(v bson.RawValue, key string) *bson.RawValue {
	for _, item := range bsondoc.Spread(v) {
		if strings.HasPrefix(key, bsondoc.Canonical(item)) {
			return &item
		}
	}
	return nil
}

// stored returns the index as in events and error messages: with "unique" in
// front of the key.
func (ix *index) stored() bson.Raw {
	d, rest := bsondoc.New(), bsondoc.New()
	for _, e := range bsondoc.Fields(ix.spec) {
		if k := e.Key(); k == "v" || k == "unique" {
			d.Value(k, e.Value())
		} else {
			rest.Value(k, e.Value())
		}
	}
	return d.Append(rest.Done()).Done()
}

// logIndexes logs indexes that were created or dropped.
func (w *writer) logIndexes(c *collection, kind string, list ...*index) {
	var specs []bson.Raw
	for _, ix := range list {
		specs = append(specs, ix.stored())
	}
	w.describe(c, kind, bsondoc.New().Docs("indexes", specs).Done())
}

func createIndexes(r *request) (*bsondoc.Builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	specs, err := r.documents("indexes")
	if err != nil {
		return nil, err
	}
	if len(specs) == 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "Must specify at least one index to create")
	}
	var wanted []*index
	for _, spec := range specs {
		ix, err := parseIndex(spec)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, ix)
	}
	reply := bsondoc.New()
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
		reply.Int32("numIndexesBefore", before+1).Int32("numIndexesAfter", len(c.indexes)+1)
		if len(made) == 0 {
			reply.Str("note", "all indexes already exist")
			return nil
		}
		reply.Bool("createdCollectionAutomatically", created).Str("commitQuorum", "votingMembers")
		if len(made) < len(wanted) {
			reply.Str("note", "index already exists")
		}
		if len(c.byID) > 0 {
			w.logIndexes(c, opCreateIndexes, made...) // built together, from the existing documents
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
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Error in specification %s :: caused by :: The 'key' field is a required property of an index specification", bsondoc.ShellDoc(spec))
	}
	name, ok := spec.Lookup("name").StringValueOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.FailedToParse, "Error in specification %s :: caused by :: The 'name' field is a required property of an index specification", bsondoc.ShellDoc(spec))
	}
	for _, e := range bsondoc.Fields(spec) {
		switch e.Key() {
		case "key", "name", "v", "unique", "sparse", "background", "ns":
		case "expireAfterSeconds":
			return nil, cmderr.Unsupported("indexes that remove documents by their age")
		case "partialFilterExpression", "collation", "weights", "default_language", "hidden", "wildcardProjection", "storageEngine", "clustered":
			return nil, cmderr.Unsupported("the index option '" + e.Key() + "'")
		default:
			return nil, cmderr.Errorf(197, "Error in specification %s :: caused by :: The field '%s' is not valid for an index specification. Specification: %s",
				bsondoc.ShellDoc(spec), e.Key(), bsondoc.ShellDoc(spec))
		}
	}
	if len(bsondoc.Fields(key)) == 0 {
		return nil, cmderr.Errorf(67, "Error in specification %s :: caused by :: Index keys cannot be empty.", bsondoc.ShellDoc(spec))
	}
	for _, e := range bsondoc.Fields(key) {
		if n, isNum := bsondoc.Float(e.Value()); !isNum || n == 0 || strings.Contains(e.Key(), "$") {
			return nil, cmderr.Unsupported("indexes of the kind " + bsondoc.ShellDoc(key))
		}
	}
	return newIndex(name, key, spec), nil
}

func (c *collection) createIndex(ix *index) error {
	if bsondoc.CompareDocs(ix.key, idIndex.key) == 0 {
		return nil // it exists, whatever its name
	}
	for _, have := range c.indexes {
		sameKey := bsondoc.CompareDocs(have.key, ix.key) == 0
		same := sameKey && have.unique == ix.unique && have.sparse == ix.sparse
		switch {
		case have.name == ix.name && same:
			return nil
		case have.name == ix.name:
			return cmderr.Errorf(cmderr.IndexKeySpecsConflict, "An existing index has the same name as the requested index. When index names are not "+
				"specified, they are auto generated and can cause conflicts. Please refer to our documentation. Requested index: %s, "+
				"existing index: %s", bsondoc.ShellDoc(ix.stored()), bsondoc.ShellDoc(have.stored()))
		case same:
			return cmderr.Errorf(cmderr.IndexOptionsConflict, "Index already exists with a different name: %s", have.name)
		}
	}
	if ix.unique {
		for rec := range c.all {
			for _, k := range ix.keys(rec.doc) {
				if ix.taken[k] != nil && ix.taken[k] != rec {
					return duplicate(c.ns, ix, rec.doc, k).Prefixed("Index build failed: " + bsonUUID(newUUID()) + ": Collection " + c.ns.String() + " ( " + bsonUUID(c.uuid) + " ) :: caused by :: ")
				}
				ix.taken[k] = rec
			}
		}
	}
	c.indexes = append(c.indexes, ix)
	return nil
}

func dropIndexes(r *request) (*bsondoc.Builder, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	name, ok := r.args["index"].StringValueOK()
	if !ok {
		return nil, cmderr.Unsupported("dropIndexes by anything but a name or '*'")
	}
	reply := bsondoc.New()
	return reply, r.write(func(w *writer) error {
		if err := w.st.noView(ns); err != nil {
			return err
		}
		c := w.collection(ns)
		if c == nil {
			return cmderr.Errorf(cmderr.NamespaceNotFound, "ns not found %s", ns)
		}
		reply.Int32("nIndexesWas", len(c.indexes)+1)
		if name == "_id_" {
			return cmderr.Errorf(cmderr.InvalidOptions, "cannot drop _id index")
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
			return cmderr.Errorf(cmderr.IndexNotFound, "index not found with name [%s]", name)
		}
		c.indexes = kept
		for _, ix := range dropped {
			w.logIndexes(c, opDropIndexes, ix)
		}
		if name == "*" {
			reply.Str("msg", "non-_id indexes dropped for collection")
		}
		return nil
	})
}

func listIndexes(r *request) (*bsondoc.Builder, error) {
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
			return cmderr.Errorf(cmderr.NamespaceNotFound, "ns does not exist: %s", ns)
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
