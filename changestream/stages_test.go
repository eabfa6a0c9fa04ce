package changestream

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

func mustParse(t *testing.T, text string) Pipeline {
	t.Helper()
	p, err := ParsePipeline(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compiled is what the server gets, as JSON.
func compiled(t *testing.T, p Pipeline, at *resumePoint) string {
	t.Helper()
	stages, err := p.compile()
	if err != nil {
		t.Fatal(err)
	}
	var sent Pipeline
	for _, s := range stages {
		sent = append(sent, s(passing{at: at}))
	}
	text, err := sent.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStagesAreCompleted(t *testing.T) {
	const (
		included = `"_id":true,"operationType":true,"clusterTime":true,"ns":true,"documentKey":true`
		inRoot   = `"_id":"$_id","operationType":"$operationType","clusterTime":"$clusterTime","ns":"$ns","documentKey":"$documentKey"`
	)
	for given, want := range map[string]string{
		`{"$match":{"a":1}}`: `{"$match":{"$or":[{"operationType":{"$in":["invalidate","dropDatabase"]}},{"a":1}]}}`,
		`{"$redact":"$$PRUNE"}`: `{"$redact":{"$cond":[{"$or":[{"$in":["$$ROOT.operationType",["invalidate","dropDatabase"]]},` +
			`{"$in":["$$CURRENT",["$$ROOT._id","$$ROOT.ns","$$ROOT.documentKey"]]}]},"$$KEEP","$$PRUNE"]}}`,

		`{"$project":{"fullDocument.a":1}}`:                         `{"$project":{"fullDocument.a":1,` + included + `}}`,
		`{"$project":{"_id":1}}`:                                    `{"$project":{` + included + `}}`,
		`{"$project":{"x":"$fullDocument.a"}}`:                      `{"$project":{"x":"$fullDocument.a",` + included + `}}`,
		`{"$project":{"x":{"$add":[1,2]}}}`:                         `{"$project":{"x":{"$add":[1,2]},` + included + `}}`,
		`{"$project":{"x":{"y":{"z":1}}}}`:                          `{"$project":{"x":{"y":{"z":1}},` + included + `}}`,
		`{"$project":{"ns.coll":1,"documentKey":{"_id":true}}}`:     `{"$project":{` + included + `}}`, // whole
		`{"$project":{"ns":1,"a":1,"operationType":2.5}}`:           `{"$project":{"a":1,` + included + `}}`,
		`{"$project":{"ns":"$ns","a":1}}`:                           `{"$project":{"a":1,` + included + `}}`,
		`{"$project":{"fullDocument":0}}`:                           `{"$project":{"fullDocument":0}}`,
		`{"$project":{"fullDocument":{"a":false}}}`:                 `{"$project":{"fullDocument":{"a":false}}}`,
		`{"$project":{"_id":1,"fullDocument":0}}`:                   `{"$project":{"fullDocument":0,"_id":true}}`,
		`{"$project":{"x":{"$numberDecimal":"0"}}}`:                 `{"$project":{"x":{"$numberDecimal":"0"}}}`,
		`{"$project":{}}`:                                           `{"$project":{}}`, // for the server to refuse
		`{"$set":{"fullDocument.a":1,"ns2":1}}`:                     `{"$set":{"fullDocument.a":1,"ns2":1}}`,
		`{"$addFields":{"ns":"$ns"}}`:                               `{"$addFields":{"ns":"$ns"}}`,
		`{"$unset":"fullDocument"}`:                                 `{"$unset":"fullDocument"}`,
		`{"$unset":["fullDocument","idx"]}`:                         `{"$unset":["fullDocument","idx"]}`,
		`{"$replaceWith":"$$ROOT"}`:                                 `{"$replaceWith":"$$ROOT"}`,
		`{"$replaceWith":{"doc":"$fullDocument"}}`:                  `{"$replaceWith":{` + inRoot + `,"doc":"$fullDocument"}}`,
		`{"$replaceWith":{"_id":"$_id","a":1}}`:                     `{"$replaceWith":{` + inRoot + `,"a":1}}`,
		`{"$replaceRoot":{"newRoot":{}}}`:                           `{"$replaceRoot":{"newRoot":{` + inRoot + `}}}`,
		`{"$replaceWith":{"$mergeObjects":["$$ROOT",{"a":1}]}}`:     `{"$replaceWith":{"$mergeObjects":["$$ROOT",{` + inRoot + `,"a":1}]}}`,
		`{"$replaceRoot":{"newRoot":{"$mergeObjects":{"a":"$b"}}}}`: `{"$replaceRoot":{"newRoot":{"$mergeObjects":[{` + inRoot + `,"a":"$b"}]}}}`,
	} {
		if got := compiled(t, mustParse(t, "["+given+"]"), nil); got != "["+want+"]" {
			t.Errorf("%s\nis sent as %s\nwant       [%s]", given, got, want)
		}
	}
}

func TestFiltersLetTheResumePointPass(t *testing.T) {
	p := mustParse(t, `[{"$match":{"a":1}},{"$redact":"$$PRUNE"},{"$unset":"a"}]`)
	raw, _ := bson.Marshal(bson.D{{Key: "_data", Value: "82"}})
	got := compiled(t, p, &resumePoint{token: raw, time: bson.Timestamp{T: 7, I: 1}})
	for _, want := range []string{
		`{"_id":{"_data":"82"},"clusterTime":{"$timestamp":{"t":7,"i":1}}},{"a":1}]`,
		`{"$eq":["$$ROOT._id",{"$literal":{"_data":"82"}}]}]},"$$KEEP","$$PRUNE"]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if mark := highWaterMark(t, bson.Timestamp{T: 7, I: 1}); resumePointOf(rigatoni.Position{Token: mark}) != nil {
		t.Error("a high-water mark is taken for an event")
	}
	if at := resumePointOf(rigatoni.Position{Token: opaque(t)}); at == nil || len(at.query()) != 1 {
		t.Errorf("the resume point of a token that can't be decoded: %+v", at)
	}
}

func TestStagesThatAreRefused(t *testing.T) {
	for given, want := range map[string]string{
		`{}`:                                  `a stage is a document with one field`,
		`{"$match":{},"$set":{}}`:             `this one has 2`,
		`{"$group":{"_id":1}}`:                `$group is not possible in a change stream; the stages are $addFields, $match, `,
		`{"$limit":1}`:                        `$limit is not possible`,
		`{"$changeStream":{}}`:                `$changeStream is not possible`,
		`{"match":{}}`:                        `match is not possible`,
		`{"$changeStreamSplitLargeEvent":{}}`: `the parts of an event would be delivered as events`,
		`{"$match":1}`:                        `$match takes a document`,
		`{"$project":"a"}`:                    `$project takes a document`,
		`{"$project":{"_id":0,"a":1}}`:        `$project must not remove _id`,
		`{"$project":{"ns":false}}`:           `$project must not remove ns`,
		`{"$project":{"ns.db":0}}`:            `$project must not remove ns`,
		`{"$project":{"ns":{"db":0}}}`:        `$project must not remove ns`,
		`{"$project":{"clusterTime":{"$numberDecimal":"0"}}}`:    `$project must not remove clusterTime`,
		`{"$project":{"documentKey":"$x"}}`:                      `$project must not change documentKey`,
		`{"$project":{"ns":{"db":"$x"}}}`:                        `$project must not change ns`,
		`{"$project":{"ns":{"$literal":1}}}`:                     `$project must not change ns`,
		`{"$project":{"ns":{}}}`:                                 `$project must not change ns`,
		`{"$project":{"ns.db":"$ns"}}`:                           `$project must not change ns`,
		`{"$set":1}`:                                             `$set takes a document`,
		`{"$set":{"_id":1}}`:                                     `$set must not change _id`,
		`{"$set":{"_id.x":1}}`:                                   `$set must not change _id`,
		`{"$addFields":{"operationType":"$$REMOVE"}}`:            `$addFields must not change operationType`,
		`{"$unset":"_id"}`:                                       `$unset must not remove _id`,
		`{"$unset":["a","documentKey._id"]}`:                     `$unset must not remove documentKey`,
		`{"$unset":1}`:                                           `$unset takes the name of a field`,
		`{"$unset":[1]}`:                                         `$unset takes the name of a field`,
		`{"$replaceWith":"$fullDocument"}`:                       `$replaceWith must name the fields`,
		`{"$replaceWith":{"$literal":{"a":1}}}`:                  `$replaceWith must name the fields`,
		`{"$replaceWith":{"$mergeObjects":[]}}`:                  `$replaceWith must name the fields`,
		`{"$replaceWith":{"$mergeObjects":["$$ROOT","$a"]}}`:     `$replaceWith must name the fields`,
		`{"$replaceWith":{"$mergeObjects":["$$ROOT",{"ns":1}]}}`: `$replaceWith must not change ns`,
		`{"$replaceWith":{"_id":"$documentKey"}}`:                `$replaceWith must not change _id`,
		`{"$replaceRoot":{"newRoot":"$fullDocument"}}`:           `$replaceRoot must name the fields`,
		`{"$replaceRoot":{"doc":1}}`:                             `$replaceRoot takes a document with the field newRoot`,
	} {
		_, err := ParsePipeline(`[{"$match":{}},` + given + `]`)
		if err == nil || !strings.Contains(err.Error(), "stage[1]: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", given, err)
		}
	}
	o := Options{Pipeline: Pipeline{{{Key: "$match", Value: bson.D{}}}, {{Key: "$unset", Value: "ns"}}}}
	_, err := Open("mongodb://127.0.0.1:1", &o)
	if want := "changestream: Options.Pipeline[1]: $unset must not remove ns, which every event keeps; leave the field out of the stage"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	o.Pipeline[1][0].Value = func() {}
	if _, err := Open("mongodb://127.0.0.1:1", &o); err == nil || !strings.Contains(err.Error(), "Options.Pipeline[1]: the stage can't be encoded") {
		t.Error(err)
	}
}
