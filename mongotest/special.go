package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// Capped and time-series collections can be created, listed and dropped, for
// code that must recognise them. Writes to them are not supported.

// capOptions returns the options of a capped collection to create; nil if it is
// not capped.
func (r *request) capOptions() (bson.Raw, error) {
	size, hasSize, err := r.positive("size")
	if err != nil {
		return nil, err
	}
	most, hasMax, err := r.positive("max")
	if err != nil {
		return nil, err
	}
	capped := r.flag("capped", false)
	switch {
	case !capped && (hasSize || hasMax):
		return nil, cmderr.Errorf(cmderr.InvalidOptions, "the 'capped' field needs to be true when either the 'size' or 'max' fields are present")
	case !capped:
		return nil, nil
	case !hasSize:
		return nil, cmderr.Errorf(cmderr.InvalidOptions, "the 'size' field is required when 'capped' is true")
	}
	d := bsondoc.New().Bool("capped", true).Int32("size", (int(size)+255)/256*256)
	if hasMax {
		d.Int32("max", int(most))
	}
	return d.Done(), nil
}

func (r *request) positive(name string) (n int64, given bool, err error) {
	v := r.args[name]
	if v.Type == 0 || v.Type == bson.TypeNull {
		return 0, false, nil
	}
	n, ok := bsondoc.Int(v)
	switch {
	case !ok:
		return 0, true, notNumber(r.name+"."+name, v)
	case n < 1:
		return 0, true, cmderr.Errorf(cmderr.Negative, "BSON field '%s' value must be >= 1, actual value '%d'", name, n)
	}
	return n, true, nil
}

// bucketSpans are the longest times that a bucket of a time series covers, in
// seconds, by granularity.
var bucketSpans = map[string]int{"seconds": 3600, "minutes": 86400, "hours": 2592000}

// seriesOptions returns the options of a time series to create; nil if it is
// none.
func (r *request) seriesOptions() (bson.Raw, error) {
	v := r.args["timeseries"]
	if v.Type == 0 || v.Type == bson.TypeNull {
		return nil, nil
	}
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, r.wrongType("timeseries", v, "object")
	}
	for _, e := range bsondoc.Fields(spec) {
		if !slices.Contains([]string{"timeField", "metaField", "granularity"}, e.Key()) {
			return nil, cmderr.Errorf(cmderr.UnknownField, "BSON field 'create.timeseries.%s' is an unknown field.", e.Key())
		}
	}
	field, ok := spec.Lookup("timeField").StringValueOK()
	if !ok {
		return nil, cmderr.Missing("create.timeseries", "timeField")
	}
	granularity, ok := spec.Lookup("granularity").StringValueOK()
	if !ok {
		granularity = "seconds"
	}
	if bucketSpans[granularity] == 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "Enumeration value '%s' for field 'create.timeseries.granularity' is not a valid value.", granularity)
	}
	d := bsondoc.New().Str("timeField", field)
	if meta, ok := spec.Lookup("metaField").StringValueOK(); ok {
		d.Str("metaField", meta)
	}
	return d.Str("granularity", granularity).Int32("bucketMaxSpanSeconds", bucketSpans[granularity]).Done(), nil
}

const bucketsPrefix = "system.buckets."

// createSeries creates a time series: a view of its buckets. The options of the
// buckets lack the validator that they have on a real server.
func (w *writer) createSeries(ns namespace, options bson.Raw) error {
	buckets := newCollection(namespace{ns.db, bucketsPrefix + ns.coll}, false)
	buckets.special = bsondoc.New().Bool("clusteredIndex", true).Doc("timeseries", options).Done()
	unpack := bsondoc.New()
	for _, e := range bsondoc.Fields(options) {
		if e.Key() != "granularity" {
			unpack.Value(e.Key(), e.Value())
		}
	}
	stage := bsondoc.New().Doc("$_internalUnpackBucket", unpack.Done()).Done()
	if err := w.createView(ns, bsondoc.New().Str("viewOn", buckets.ns.coll).Docs("pipeline", []bson.Raw{stage}).Done()); err != nil {
		return err
	}
	w.add(buckets)
	return nil
}

// series returns the buckets of a time series; nil if it is none.
func (st *store) series(ns namespace) *collection {
	if st.view(ns) == nil {
		return nil
	}
	return st.colls[namespace{ns.db, bucketsPrefix + ns.coll}]
}

// ordinary refuses what is not supported with special collections.
func (st *store) ordinary(ns namespace) error {
	switch c := st.colls[ns]; {
	case st.series(ns) != nil:
		return cmderr.Unsupported("writes to time-series collections")
	case c != nil && c.special != nil:
		return cmderr.Unsupported("writes to capped collections and time series' buckets")
	}
	return st.noView(ns)
}

// describeSeries is the time series in a list of collections.
func (c *collection) describeSeries(nameOnly bool) bson.Raw {
	d := bsondoc.New().Str("name", c.ns.coll[len(bucketsPrefix):]).Str("type", "timeseries")
	if nameOnly {
		return d.Done()
	}
	options := bsondoc.New().Value("timeseries", c.special.Lookup("timeseries")).Done()
	return d.Doc("options", options).Doc("info", bsondoc.New().Bool("readOnly", false).Done()).Done()
}
