package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// aggregate opens a change stream, or reads a collection through stages.
func aggregate(r *request) (*bsondoc.Builder, error) {
	stages, err := r.documents("pipeline")
	if err != nil {
		return nil, err
	}
	if _, ok := r.args["cursor"].DocumentOK(); !ok {
		return nil, cmderr.Errorf(cmderr.FailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument")
	}
	v2, err := r.v2Tokens()
	if err != nil {
		return nil, err
	}
	if isWatch(r) {
		return watch(r, stages, v2)
	}
	if r.args["aggregate"].Type != bson.TypeString {
		return nil, cmderr.Unsupported("aggregate on a database without $changeStream")
	}
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	if spec, ok := statsStage(stages); ok {
		doc, err := r.collStats(ns, spec)
		if err != nil {
			return nil, err
		}
		return r.openStages(&cursor{ns: ns, at: r.snapshotTime()}, []bson.Raw{doc}, stages[1:])
	}
	all, err := query.CompileFilter(bsondoc.Empty)
	if err != nil {
		return nil, err
	}
	docs, list, err := r.selected(ns, selection{filter: all, at: r.snapshotTime()})
	if err != nil {
		return nil, err
	}
	return r.openStages(list, docs, stages)
}

// openStages replies with what the stages make of documents.
func (r *request) openStages(list *cursor, docs, stages []bson.Raw) (_ *bsondoc.Builder, err error) {
	for _, spec := range stages {
		if docs, err = query.RunStage(docs, spec); err != nil {
			return nil, err
		}
	}
	if docs == nil {
		docs = []bson.Raw{}
	}
	return r.openCursor(list, docs)
}
