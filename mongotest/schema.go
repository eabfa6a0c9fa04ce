package mongotest

import (
	"encoding/hex"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

func schemaCommands() map[string]*command {
	return map[string]*command{
		"create": {run: create, write: true, fields: []string{"idIndex", "flags", "changeStreamPreAndPostImages", "viewOn", "pipeline", "capped", "size", "max", "timeseries"},
			others: []string{"collation", "expireAfterSeconds", "clusteredIndex",
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

func create(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	images, given, err := r.images()
	switch {
	case err != nil:
		return nil, err
	case given && isInternal(r.db):
		return nil, cmderr.Errorf(cmderr.InvalidOptions, "changeStreamPreAndPostImages collection option is not supported on the %s database", r.db)
	}
	view, err := r.viewOptions(ns)
	switch {
	case err != nil:
		return nil, err
	case view != nil && images:
		return nil, noImagesOfView()
	}
	capped, err := r.capOptions()
	if err != nil {
		return nil, err
	}
	series, err := r.seriesOptions()
	switch {
	case err != nil:
		return nil, err
	case series != nil && (images || capped != nil || view != nil):
		return nil, cmderr.Unsupported("other options of time-series collections")
	}
	return bsondoc.New(), r.write(func(w *writer) error {
		switch {
		case w.st.series(ns) != nil:
			return cmderr.Errorf(cmderr.NamespaceExists, "A timeseries collection already exists. NS: %s", ns)
		case view != nil:
			return w.createView(ns, view)
		case w.st.view(ns) != nil:
			return cmderr.Errorf(cmderr.NamespaceExists, "A view already exists. NS: %s", ns)
		case w.st.colls[ns] != nil:
			return cmderr.Errorf(cmderr.NamespaceExists, "Collection %s already exists.", ns)
		case series != nil:
			return w.createSeries(ns, series)
		}
		c := newCollection(ns, images)
		c.special = capped
		w.add(c)
		return nil
	})
}

func collMod(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	images, given, err := r.images()
	if err != nil {
		return nil, err
	}
	return bsondoc.New(), r.write(func(w *writer) error {
		if v := w.st.view(ns); v != nil {
			if given {
				return noImagesOfView()
			}
			w.logView(opModify, ns, v.viewOptions())
			return nil
		}
		c := w.st.colls[ns]
		if c == nil {
			return cmderr.Errorf(cmderr.NamespaceNotFound, "ns does not exist")
		}
		was := bsondoc.New().Binary("uuid", bson.TypeBinaryUUID, c.uuid[:]).Append(c.options()).Done()
		description := bsondoc.Empty
		if given {
			c.images = images
			description = imagesOption(images)
		}
		w.log(&entry{kind: opModify, ns: ns, uuid: c.uuid, description: description, state: bsondoc.New().Doc("collectionOptions", was).Done()})
		return nil
	})
}

// images returns the option changeStreamPreAndPostImages.
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
	for _, e := range bsondoc.Fields(doc) {
		if e.Key() != "enabled" {
			return false, true, cmderr.Errorf(cmderr.UnknownField, "BSON field '%s.%s.%s' is an unknown field.", r.name, name, e.Key())
		}
	}
	v = doc.Lookup("enabled")
	if v.Type == 0 || v.Type == bson.TypeNull {
		return false, true, cmderr.Missing(r.name, name+".enabled")
	}
	if enabled, ok = v.BooleanOK(); !ok {
		return false, true, r.wrongType(name+".enabled", v, "bool")
	}
	return enabled, true, nil
}

func imagesOption(enabled bool) bson.Raw {
	return bsondoc.New().Doc("changeStreamPreAndPostImages", bsondoc.New().Bool("enabled", enabled).Done()).Done()
}

// options returns the collection's options, as in the reply of listCollections.
func (c *collection) options() bson.Raw {
	d := bsondoc.New()
	if c.special != nil {
		d.Append(c.special)
	}
	if c.images {
		d.Append(imagesOption(true))
	}
	return d.Done()
}

func drop(r *request) (*bsondoc.Builder, error) {
	ns, err := r.writable()
	if err != nil {
		return nil, err
	}
	reply := bsondoc.New()
	return reply, r.write(func(w *writer) error {
		if v := w.st.view(ns); v != nil {
			buckets := w.st.series(ns)
			if buckets != nil {
				reply.Int32("nIndexesWas", 0)
			}
			reply.Str("ns", ns.String())
			w.dropView(ns, v)
			if buckets != nil {
				w.drop(buckets)
			}
			return nil
		}
		c := w.st.colls[ns]
		if c == nil {
			return cmderr.Errorf(cmderr.NamespaceNotFound, "ns not found")
		}
		reply.Int32("nIndexesWas", len(c.indexes)+1).Str("ns", ns.String())
		w.drop(c)
		return nil
	})
}

func dropDatabase(r *request) (*bsondoc.Builder, error) {
	if isInternal(r.db) {
		return nil, cmderr.Errorf(cmderr.IllegalOperation, "Dropping the '%s' database is prohibited.", r.db)
	}
	return bsondoc.New(), r.write(func(w *writer) error {
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

// inDatabase returns the collections of a database, in the order of their
// creation.
func (st *store) inDatabase(db string) []*collection {
	var all []*collection
	for _, ns := range st.order {
		if ns.db == db {
			all = append(all, st.colls[ns])
		}
	}
	return all
}

func renameCollection(r *request) (*bsondoc.Builder, error) {
	if r.db != "admin" {
		return nil, cmderr.Errorf(cmderr.Unauthorized, "renameCollection may only be run against the admin database.")
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
		return nil, cmderr.Unsupported("renameCollection into another database")
	}
	return bsondoc.New(), r.write(func(w *writer) error {
		c := w.st.colls[from]
		switch {
		case from.coll == viewsName:
			return cmderr.Errorf(cmderr.IllegalOperation, "error with source namespace: cannot write to %s", from)
		case to.coll == viewsName:
			return cmderr.Errorf(cmderr.IllegalOperation, "error with target namespace: cannot write to %s", to)
		case w.st.view(from) != nil:
			return cmderr.Errorf(cmderr.NotSupportedOnView, "cannot rename view: %s", from)
		case w.st.view(to) != nil:
			return cmderr.Errorf(cmderr.NamespaceExists, "a view already exists with that name: %s", to)
		case c == nil:
			return cmderr.Errorf(cmderr.NamespaceNotFound, "Source collection %s does not exist", from)
		case from == to:
			return cmderr.Errorf(cmderr.IllegalOperation, "Can't rename a collection to itself")
		case w.st.colls[to] != nil && !r.flag("dropTarget", false):
			return cmderr.Errorf(cmderr.NamespaceExists, "target namespace exists")
		}
		w.rename(c, to)
		return nil
	})
}

func splitNamespace(v bson.RawValue) (namespace, error) {
	s, ok := v.StringValueOK()
	if !ok {
		return namespace{}, cmderr.Errorf(cmderr.TypeMismatch, "renameCollection needs the names of two collections")
	}
	var ns namespace
	for i := range len(s) {
		if s[i] == '.' {
			ns = namespace{s[:i], s[i+1:]}
			break
		}
	}
	if ns.db == "" {
		return ns, cmderr.Errorf(cmderr.InvalidNamespace, "Invalid namespace specified '%s'", s)
	}
	return ns, ns.check()
}

// filter returns the filter of a command that lists.
func (r *request) filter() (*query.Filter, error) {
	doc, err := r.document("filter")
	if err != nil {
		return nil, err
	}
	return query.CompileFilter(doc)
}

func listCollections(r *request) (*bsondoc.Builder, error) {
	f, err := r.filter()
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	err = r.read(func(w *writer) error {
		list := func(describe func(nameOnly bool) bson.Raw) {
			if f.Match(describe(false)) {
				docs = append(docs, describe(r.flag("nameOnly", false)))
			}
		}
		for _, c := range w.st.inDatabase(r.db) {
			list(c.describe)
		}
		if c := w.st.colls[namespace{r.db, viewsName}]; c != nil {
			for view := range c.all {
				_, name, _ := strings.Cut(view.doc.Lookup("_id").StringValue(), ".")
				if buckets := w.st.series(namespace{r.db, name}); buckets != nil {
					list(buckets.describeSeries)
				} else {
					list(view.describeView)
				}
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
	d := bsondoc.New().Str("name", c.ns.coll).Str("type", "collection")
	if nameOnly {
		return d.Done()
	}
	d.Doc("options", c.options())
	info := bsondoc.New().Bool("readOnly", false).Binary("uuid", bson.TypeBinaryUUID, c.uuid[:])
	return d.Doc("info", info.Done()).Doc("idIndex", idIndex.spec).Done()
}

func listDatabases(r *request) (*bsondoc.Builder, error) {
	if r.db != "admin" {
		return nil, cmderr.Errorf(cmderr.Unauthorized, "listDatabases may only be run against the admin database.")
	}
	f, err := r.filter()
	if err != nil {
		return nil, err
	}
	nameOnly := r.flag("nameOnly", false)
	reply, total := bsondoc.New(), 0
	err = r.read(func(w *writer) error {
		var docs []bson.Raw
		for _, name := range w.st.databases() {
			size := w.st.size(name)
			full := bsondoc.New().Str("name", name).Int64("sizeOnDisk", int64(size)).Bool("empty", size == 0).Done()
			if !f.Match(full) {
				continue
			}
			if nameOnly {
				full = bsondoc.New().Str("name", name).Done()
			}
			docs = append(docs, full)
			total += size
		}
		reply.Docs("databases", docs)
		return nil
	})
	if !nameOnly {
		reply.Int64("totalSize", int64(total)).Int64("totalSizeMb", int64(total>>20))
	}
	return reply, err
}

// databases returns those that have collections, and the three that every
// server has.
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

// size returns the total size of a database's documents in bytes.
func (st *store) size(db string) int {
	n := 0
	for _, c := range st.inDatabase(db) {
		n += c.size()
	}
	return n
}

func (c *collection) size() (n int) {
	for rec := range c.all {
		n += len(rec.doc)
	}
	return n
}

func bsonUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
