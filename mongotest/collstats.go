package mongotest

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// statsStage returns the specification of a $collStats that a pipeline begins
// with; false if it begins with another stage.
func statsStage(stages []bson.Raw) (bson.RawValue, bool) {
	if len(stages) == 0 {
		return bson.RawValue{}, false
	}
	v, err := stages[0].LookupErr("$collStats")
	return v, err == nil
}

// collStats returns the one document that $collStats makes, with the number of
// documents and their size.
func (r *request) collStats(ns namespace, v bson.RawValue) (doc bson.Raw, err error) {
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(5447000, "$collStats must take a nested object but found: $collStats: %s", bsondoc.Shell(v))
	}
	var count, storage bool
	scale := int64(1)
	for _, e := range bsondoc.Fields(spec) {
		name := e.Key()
		switch name {
		case "count", "storageStats":
		case "latencyStats", "queryExecStats":
			return nil, cmderr.Unsupported("the option '" + name + "' of $collStats")
		default:
			return nil, cmderr.Errorf(cmderr.UnknownField, "BSON field '$collStats.%s' is an unknown field.", name)
		}
		options, err := documentField("$collStats", name, e.Value())
		switch {
		case err != nil:
			return nil, err
		case name == "storageStats":
			if scale, err = statsScale(options); err != nil {
				return nil, err
			}
			storage = true
		case len(bsondoc.Fields(options)) > 0:
			return nil, cmderr.Errorf(31170, "expected an empty object, but got %s", bsondoc.ShellDoc(options))
		default:
			count = true
		}
	}
	err = r.read(func(w *writer) error {
		doc, err = w.collStats(ns, count, storage, scale)
		return err
	})
	return doc, err
}

func statsScale(options bson.Raw) (int64, error) {
	v, err := options.LookupErr("scale")
	if err != nil {
		return 1, nil
	}
	n, ok := bsondoc.Int(v)
	switch {
	case !ok:
		return 0, notNumber("$collStats.storageStats.scale", v)
	case n < 1:
		return 0, cmderr.Errorf(cmderr.Negative, "BSON field 'scale' value must be >= 1, actual value '%d'", n)
	}
	return n, nil
}

// notNumber has its quotation marks where a real server has them.
func notNumber(field string, v bson.RawValue) error {
	return cmderr.Errorf(cmderr.TypeMismatch, "BSON field '%s' is the wrong type '%s', expected types '[long, int, decimal, double']", field, bsondoc.TypeName(v.Type))
}

func (w *writer) collStats(ns namespace, count, storage bool, scale int64) (bson.Raw, error) {
	if (count || storage) && w.st.view(ns) != nil {
		if err := w.st.noView(ns); w.st.series(ns) == nil {
			return nil, cmderr.From(err).Prefixed("PlanExecutor error during aggregation :: caused by :: ")
		}
		ns.coll = bucketsPrefix + ns.coll
	}
	c := w.st.colls[ns]
	d := bsondoc.New().Str("ns", ns.String()).Str("host", w.st.name).Date("localTime", time.Now())
	missing := func(what string) error {
		return cmderr.Errorf(cmderr.NamespaceNotFound, "PlanExecutor error during aggregation :: caused by :: Unable to retrieve %s in $collStats stage :: caused by :: Collection [%s] not found.", what, ns)
	}
	switch {
	case c == nil && storage:
		return nil, missing("storageStats")
	case c == nil && count:
		return nil, missing("count")
	}
	if storage {
		d.Doc("storageStats", c.storageStats(scale))
	}
	if count {
		d.Int32("count", len(c.byID))
	}
	return d.Done(), nil
}

// storageStats returns those figures that mean something here.
func (c *collection) storageStats(scale int64) bson.Raw {
	size, n := c.size(), len(c.byID)
	d := bsondoc.New().Int32("size", size/int(scale)).Int32("count", n)
	if n > 0 {
		d.Int32("avgObjSize", size/n)
	}
	capped := bsondoc.Truth(c.special.Lookup("capped"), false)
	d.Int32("numOrphanDocs", 0).Int32("storageSize", size/int(scale)).Int32("freeStorageSize", 0).Bool("capped", capped)
	return d.Int32("nindexes", len(c.indexes)+1).Int32("scaleFactor", int(scale)).Done()
}
