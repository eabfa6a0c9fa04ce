package mongotest

import (
	"encoding/hex"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func schemaCommands() map[string]*command {
	return map[string]*command{
		"create": {run: create, write: true, fields: []string{"idIndex", "flags", "changeStreamPreAndPostImages", "viewOn", "pipeline"},
			others: []string{"capped", "size", "max", "collation", "timeseries", "expireAfterSeconds", "clusteredIndex",
				"validator", "validationLevel", "validationAction", "storageEngine", "indexOptionDefaults", "encryptedFields", "autoIndexId"}},
		"collMod": {run: collMod, write: true, fields: []string{"changeStreamPreAndPostImages"},
			others: []string{"index", "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "expireAfterSeconds", "timeseries",
				"clusteredIndex", "cappedSize", "cappedMax", "recordPreImages", "noPadding", "usePowerOf2Sizes"}},
		"drop":             {run: drop, write: true, fields: []string{}},
		"dropDatabase":     {run: dropDatabase, write: true, fields: []string{}},
		"renameCollection": {run: renameCollection, write: true, fields: []string{"to", "dropTarget"}},
		"listCollections":  {run: listCollections, read: true, fields: []string{"filter", "nameOnly", "cursor", "authorizedCollections"}},
		"listDatabases":    {run: listDatabases, read: true, fields: []string{"filter", "nameOnly", "authorizedDatabases"}},
		"createIndexes":    {run: createIndexes, write: true, fields: []string{"indexes", "commitQuorum"}},
		"dropIndexes":      {run: dropIndexes, write: true, fields: []string{"index"}},
		"listIndexes":      {run: listIndexes, read: true, fields: []string{"cursor"}},
	}
}

func create(r *request) (*builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	images, given, err := r.images()
	switch {
	case err != nil:
		return nil, err
	case given && isInternal(r.db):
		return nil, failf(codeInvalidOptions, "changeStreamPreAndPostImages collection option is not supported on the %s database", r.db)
	}
	view, err := r.viewOptions(ns)
	switch {
	case err != nil:
		return nil, err
	case view != nil && images:
		return nil, noImagesOfView()
	}
	return newBuilder(), r.write(func(w *writer) error {
		switch {
		case view != nil:
			return w.createView(ns, view)
		case w.st.view(ns) != nil:
			return failf(codeNamespaceExists, "A view already exists. NS: %s", ns)
		case w.st.colls[ns] != nil:
			return failf(codeNamespaceExists, "Collection %s already exists.", ns)
		}
		w.create(ns, images)
		return nil
	})
}

func collMod(r *request) (*builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	images, given, err := r.images()
	if err != nil {
		return nil, err
	}
	return newBuilder(), r.write(func(w *writer) error {
		if v := w.st.view(ns); v != nil {
			if given {
				return noImagesOfView()
			}
			w.logView(opModify, ns, v.viewOptions())
			return nil
		}
		c := w.st.colls[ns]
		if c == nil {
			return failf(codeNamespaceNotFound, "ns does not exist")
		}
		was := newBuilder().binary("uuid", bson.TypeBinaryUUID, c.uuid[:]).append(c.options()).done()
		description := emptyDoc
		if given {
			c.images = images
			description = imagesOption(images)
		}
		w.log(&entry{kind: opModify, ns: ns, uuid: c.uuid, description: description, state: newBuilder().doc("collectionOptions", was).done()})
		return nil
	})
}

// images is the option changeStreamPreAndPostImages.
func (r *request) images() (enabled, given bool, err error) {
	const name = "changeStreamPreAndPostImages"
	v := r.args[name]
	if v.Type == 0 || v.Type == bson.TypeNull {
		return false, false, nil
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return false, true, r.wrongType(name, v, "object")
	}
	for _, e := range fields(doc) {
		if e.Key() != "enabled" {
			return false, true, failf(codeUnknownField, "BSON field '%s.%s.%s' is an unknown field.", r.name, name, e.Key())
		}
	}
	v = doc.Lookup("enabled")
	if v.Type == 0 || v.Type == bson.TypeNull {
		return false, true, missingField(r.name, name+".enabled")
	}
	if enabled, ok = v.BooleanOK(); !ok {
		return false, true, r.wrongType(name+".enabled", v, "bool")
	}
	return enabled, true, nil
}

func imagesOption(enabled bool) bson.Raw {
	return newBuilder().doc("changeStreamPreAndPostImages", newBuilder().bool("enabled", enabled).done()).done()
}

// options are the collection's as they are shown.
func (c *collection) options() bson.Raw {
	if c.images {
		return imagesOption(true)
	}
	return emptyDoc
}

func drop(r *request) (*builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	reply := newBuilder()
	return reply, r.write(func(w *writer) error {
		if v := w.st.view(ns); v != nil {
			reply.str("ns", ns.String())
			w.dropView(ns, v)
			return nil
		}
		c := w.st.colls[ns]
		if c == nil {
			return failf(codeNamespaceNotFound, "ns not found")
		}
		reply.int32("nIndexesWas", len(c.indexes)+1).str("ns", ns.String())
		w.drop(c)
		return nil
	})
}

func dropDatabase(r *request) (*builder, error) {
	if isInternal(r.db) {
		return nil, failf(codeIllegalOperation, "Dropping the '%s' database is prohibited.", r.db)
	}
	return newBuilder(), r.write(func(w *writer) error {
		if !w.st.dbs[r.db] {
			return nil
		}
		for _, c := range w.st.inDatabase(r.db) {
			w.drop(c)
		}
		delete(w.st.dbs, r.db)
		w.log(&entry{kind: opDropDatabase, ns: namespace{r.db, ""}})
		return nil
	})
}

// inDatabase are the collections of a database, in the order of their making.
func (st *store) inDatabase(db string) []*collection {
	var all []*collection
	for _, ns := range st.order {
		if ns.db == db {
			all = append(all, st.colls[ns])
		}
	}
	return all
}

func renameCollection(r *request) (*builder, error) {
	if r.db != "admin" {
		return nil, failf(codeUnauthorized, "renameCollection may only be run against the admin database.")
	}
	from, err := splitNamespace(r.args[r.name])
	if err != nil {
		return nil, err
	}
	to, err := splitNamespace(r.args["to"])
	if err != nil {
		return nil, err
	}
	if from.db != to.db {
		return nil, notImitated("renameCollection into another database")
	}
	return newBuilder(), r.write(func(w *writer) error {
		c := w.st.colls[from]
		switch {
		case from.coll == viewsName:
			return failf(codeIllegalOperation, "error with source namespace: cannot write to %s", from)
		case to.coll == viewsName:
			return failf(codeIllegalOperation, "error with target namespace: cannot write to %s", to)
		case w.st.view(from) != nil:
			return failf(codeNotSupportedOnView, "cannot rename view: %s", from)
		case w.st.view(to) != nil:
			return failf(codeNamespaceExists, "a view already exists with that name: %s", to)
		case c == nil:
			return failf(codeNamespaceNotFound, "Source collection %s does not exist", from)
		case from == to:
			return failf(codeIllegalOperation, "Can't rename a collection to itself")
		case w.st.colls[to] != nil && !r.flag("dropTarget", false):
			return failf(codeNamespaceExists, "target namespace exists")
		}
		w.rename(c, to)
		return nil
	})
}

func splitNamespace(v bson.RawValue) (namespace, error) {
	s, ok := v.StringValueOK()
	if !ok {
		return namespace{}, failf(codeTypeMismatch, "renameCollection needs the names of two collections")
	}
	var ns namespace
	for i := range len(s) {
		if s[i] == '.' {
			ns = namespace{s[:i], s[i+1:]}
			break
		}
	}
	if ns.db == "" {
		return ns, failf(codeInvalidNamespace, "Invalid namespace specified '%s'", s)
	}
	return ns, ns.check()
}

// filter is that of a command that lists.
func (r *request) filter() (*filter, error) {
	query, err := r.document("filter")
	if err != nil {
		return nil, err
	}
	return compileFilter(query)
}

func listCollections(r *request) (*builder, error) {
	f, err := r.filter()
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	err = r.read(func(w *writer) error {
		list := func(describe func(nameOnly bool) bson.Raw) {
			if f.match(describe(false)) {
				docs = append(docs, describe(r.flag("nameOnly", false)))
			}
		}
		for _, c := range w.st.inDatabase(r.db) {
			list(c.describe)
		}
		if c := w.st.colls[namespace{r.db, viewsName}]; c != nil {
			for view := range c.all {
				list(view.describeView)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.openListing(namespace{r.db, "$cmd.listCollections"}, docs)
}

func (c *collection) describe(nameOnly bool) bson.Raw {
	d := newBuilder().str("name", c.ns.coll).str("type", "collection")
	if nameOnly {
		return d.done()
	}
	d.doc("options", c.options())
	info := newBuilder().bool("readOnly", false).binary("uuid", bson.TypeBinaryUUID, c.uuid[:])
	return d.doc("info", info.done()).doc("idIndex", idIndex.spec).done()
}

func listDatabases(r *request) (*builder, error) {
	if r.db != "admin" {
		return nil, failf(codeUnauthorized, "listDatabases may only be run against the admin database.")
	}
	f, err := r.filter()
	if err != nil {
		return nil, err
	}
	nameOnly := r.flag("nameOnly", false)
	reply, total := newBuilder(), 0
	err = r.read(func(w *writer) error {
		var docs []bson.Raw
		for _, name := range w.st.databases() {
			size := w.st.size(name)
			full := newBuilder().str("name", name).int64("sizeOnDisk", int64(size)).bool("empty", size == 0).done()
			if !f.match(full) {
				continue
			}
			if nameOnly {
				full = newBuilder().str("name", name).done()
			}
			docs = append(docs, full)
			total += size
		}
		reply.docs("databases", docs)
		return nil
	})
	if !nameOnly {
		reply.int64("totalSize", int64(total)).int64("totalSizeMb", int64(total>>20))
	}
	return reply, err
}

// databases are those that have collections, and the three of every server.
func (st *store) databases() []string {
	names := []string{"admin", "config", "local"}
	for _, ns := range st.order {
		if !slices.Contains(names, ns.db) {
			names = append(names, ns.db)
		}
	}
	slices.Sort(names)
	return names
}

// size is how many bytes a database's documents have.
func (st *store) size(db string) int {
	n := 0
	for _, c := range st.inDatabase(db) {
		for rec := range c.all {
			n += len(rec.doc)
		}
	}
	return n
}

func bsonUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
