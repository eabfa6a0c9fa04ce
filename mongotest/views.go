package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// viewsName is the collection of a database's views: {_id: namespace, viewOn,
// pipeline}. They are only listed, and reading through them is not supported.
// In streams, changes of a view are not writes to this collection.
const viewsName = "system.views"

// view returns nil if there is no view of that name.
func (st *store) view(ns namespace) *record {
	c := st.colls[namespace{ns.db, viewsName}]
	if c == nil {
		return nil
	}
	return c.byID[bsondoc.Canonical(bsondoc.New().Str("", ns.String()).Only())]
}

// noView refuses commands that are for collections only.
func (st *store) noView(ns namespace) error {
	if st.series(ns) != nil {
		return cmderr.Errorf(cmderr.NotSupportedOnView, "Namespace %s is a timeseries collection", ns)
	}
	if st.view(ns) != nil {
		return cmderr.Errorf(cmderr.NotSupportedOnView, "Namespace %s is a view, not a collection", ns)
	}
	return nil
}

func noImagesOfView() error {
	return cmderr.Errorf(cmderr.InvalidOptions, "option not supported on a view: changeStreamPreAndPostImages")
}

// viewOptions returns the options of the view to create; nil if it is a
// collection.
func (r *request) viewOptions(ns namespace) (bson.Raw, error) {
	given := r.args["viewOn"]
	on, isString := given.StringValueOK()
	_, hasPipeline := r.args["pipeline"]
	_, hasIDIndex := r.args["idIndex"]
	switch {
	case given.Type != 0 && given.Type != bson.TypeNull && !isString:
		return nil, r.wrongType("viewOn", given, "string")
	case !isString && hasPipeline:
		return nil, cmderr.Errorf(cmderr.InvalidOptions, "'pipeline' requires 'viewOn' to also be specified")
	case !isString:
		return nil, nil
	case on == "":
		return nil, cmderr.Errorf(cmderr.BadValue, "'viewOn' cannot be empty")
	case namespace{r.db, on}.check() != nil:
		return nil, cmderr.Errorf(cmderr.InvalidNamespace, "invalid name for 'viewOn': %s", on)
	case hasIDIndex:
		return nil, cmderr.Errorf(cmderr.InvalidOptions, "'idIndex' is not allowed with 'viewOn': %s", bsondoc.Shell(r.args["idIndex"]))
	case strings.HasPrefix(ns.coll, "system."):
		return nil, cmderr.Errorf(cmderr.InvalidNamespace, "Invalid system namespace: %s", ns)
	}
	var stages []bson.Raw
	if hasPipeline {
		var err error
		if stages, err = r.documents("pipeline"); err != nil {
			return nil, err
		}
	}
	for _, stage := range stages {
		if _, err := query.StageName(stage); err != nil {
			return nil, err
		}
	}
	return bsondoc.New().Str("viewOn", on).Docs("pipeline", stages).Done(), nil
}

func (w *writer) createView(ns namespace, options bson.Raw) error {
	switch {
	case w.st.colls[ns] != nil:
		return cmderr.Errorf(cmderr.NamespaceExists, "Cannot create collection %s - collection already exists.", ns)
	case w.st.view(ns) != nil:
		return cmderr.Errorf(cmderr.NamespaceExists, "Namespace already exists")
	}
	if err := w.ensure(namespace{ns.db, viewsName}).add(bsondoc.New().Str("_id", ns.String()).Append(options).Done()); err != nil {
		return err
	}
	w.logView(opCreate, ns, options)
	return nil
}

func (w *writer) dropView(ns namespace, view *record) {
	w.st.colls[namespace{ns.db, viewsName}].remove(view)
	w.logView(opDrop, ns, nil)
}

func (w *writer) logView(kind string, ns namespace, description bson.Raw) {
	w.log(&entry{kind: kind, ns: ns, uuid: w.st.colls[namespace{ns.db, viewsName}].uuid, view: true, description: description})
}

// viewOptions returns the view's options, as in the reply of listCollections.
func (rec *record) viewOptions() bson.Raw {
	return bsondoc.New().Elements(bsondoc.Fields(rec.doc)[1:]).Done()
}

func (rec *record) describeView(nameOnly bool) bson.Raw {
	_, name, _ := strings.Cut(rec.doc.Lookup("_id").StringValue(), ".")
	d := bsondoc.New().Str("name", name).Str("type", "view")
	if nameOnly {
		return d.Done()
	}
	return d.Doc("options", rec.viewOptions()).Doc("info", bsondoc.New().Bool("readOnly", true).Done()).Done()
}
