package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// images lists the valid values of the options for images.
var images = map[string][]string{
	"fullDocument":             {"default", "updateLookup", "whenAvailable", "required"},
	"fullDocumentBeforeChange": {"off", "whenAvailable", "required"},
}

func readImages(name string, v bson.RawValue) (mode string, err error) {
	mode, ok := v.StringValueOK()
	switch {
	case !ok:
		return "", wrongOption(name, v, "string")
	case !slices.Contains(images[name], mode):
		return "", cmderr.Errorf(cmderr.BadValue, "Enumeration value '%s' for field '$changeStream.%s' is not a valid value.", mode, name)
	}
	return mode, nil
}

// postImage returns the document after an update. A real server computes it
// from the pre-image and the change, so it is nil without a pre-image.
func (e *entry) postImage() bson.Raw {
	if e.before == nil {
		return nil
	}
	return e.doc
}

// hasBefore reports whether an event is a change of an existing document.
func (ev *event) hasBefore() bool {
	return ev.kind == opUpdate || ev.kind == opReplace || ev.kind == opDelete
}

// missingImage returns the error for an event without an image that the stream
// requires, and the stages that can filter the event out before that error
// occurs.
func (s *stream) missingImage(ev *event) (early []query.Stage, err *cmderr.Error) {
	e := ev.entry
	which, changes := "pre", "update, delete and replace"
	switch {
	case e.before != nil || !ev.hasBefore():
		return nil, nil
	case s.before == "required":
		early = s.beforeImages
	case s.full == "required" && ev.kind == opUpdate:
		early, which, changes = s.beforePostImage, "post", "update"
	default:
		return nil, nil
	}
	what := bsondoc.New().Str("operationType", ev.kind)
	e.ns.field("ns", what)
	what.Timestamp("clusterTime", e.ts)
	if e.lsid != nil {
		what.Int64("txnNumber", e.txnNumber)
	}
	return early, cmderr.Errorf(cmderr.NoMatchingDocument, "Change stream was configured to require a %s-image for all %s events, but the %s-image was not found for event: %s",
		which, changes, which, bsondoc.Compact(bsondoc.Value(what.Done())))
}

// compileEarly compiles the stages that run before images are looked up. A real
// server evaluates those conditions of $match first that don't depend on
// images.
func (s *stream) compileEarly(stages []bson.Raw) error {
	if s.full != "required" && s.before != "required" {
		return nil
	}
	var post, both []string
	if s.full != "default" {
		post = []string{"fullDocument"}
	}
	both = append(both, post...)
	if s.before != "off" {
		both = append(both, "fullDocumentBeforeChange")
	}
	var err error
	if s.beforePostImage, err = query.CompileStages(withoutFields(stages, post), true); err == nil {
		s.beforeImages, err = query.CompileStages(withoutFields(stages, both), true)
	}
	return err
}

func withoutFields(stages []bson.Raw, names []string) []bson.Raw {
	var out []bson.Raw
	for _, spec := range stages {
		if query, ok := spec.Lookup("$match").DocumentOK(); ok {
			spec = bsondoc.New().Doc("$match", withoutConditions(query, names)).Done()
		}
		out = append(out, spec)
	}
	return out
}

func withoutConditions(query bson.Raw, names []string) bson.Raw {
	d := bsondoc.New()
	for _, e := range bsondoc.Fields(query) {
		switch {
		case e.Key() == "$and":
			var all []bson.Raw
			for _, item := range bsondoc.Items(e.Value()) {
				all = append(all, withoutConditions(item.Document(), names))
			}
			d.Docs("$and", all)
		case !mentions(e, names):
			d.Value(e.Key(), e.Value())
		}
	}
	return d.Done()
}

// mentions reports whether a condition depends on one of the fields.
func mentions(condition bson.RawElement, names []string) bool {
	name, _, _ := strings.Cut(condition.Key(), ".")
	return slices.Contains(names, name) || slices.ContainsFunc(bsondoc.Items(condition.Value()), func(item bson.RawValue) bool {
		query, ok := item.DocumentOK()
		return ok && strings.HasPrefix(name, "$") && slices.ContainsFunc(bsondoc.Fields(query), func(e bson.RawElement) bool { return mentions(e, names) })
	})
}
