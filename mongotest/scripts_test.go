package mongotest

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// behaviours are the scripts that run on mongotest and a real server.
var behaviours = map[string]func(*script){
	"insert":                 scriptInsert,
	"long strings":           scriptLongStrings,
	"update operators":       scriptUpdateOperators,
	"update arrays":          scriptUpdateArrays,
	"update errors":          scriptUpdateErrors,
	"pipeline updates":       scriptPipelineUpdates,
	"pipeline update errors": scriptPipelineUpdateErrors,
	"pipeline update sizes":  scriptPipelineUpdateSizes,
	"replace and upsert":     scriptReplaceUpsert,
	"delete":                 scriptDelete,
	"find":                   scriptFind,
	"query operators":        scriptQuery,
	"projection":             scriptProjection,
	"find and modify":        scriptFindAndModify,
	"indexes":                scriptIndexes,
	"collections":            scriptCollections,
	"cursors":                scriptCursors,
	"unknown":                scriptUnknown,
	"watch open":             scriptWatchOpen,
	"watch options":          scriptWatchOptions,
	"watch resume":           scriptWatchResume,
	"watch tokens":           scriptWatchTokens,
	"watch malformed":        scriptWatchMalformed,
	"watch batches":          scriptWatchBatches,
	"watch stages":           scriptWatchStages,
	"watch ids":              scriptWatchIDs,
	"watch lookup":           scriptWatchLookup,
	"watch drop":             scriptWatchDrop,
	"watch hidden drop":      scriptWatchHiddenDrop,
	"watch rename":           scriptWatchRename,
	"watch database":         scriptWatchDatabase,
	"watch empty":            scriptWatchEmpty,
	"watch version 2":        scriptWatchVersion2,
	"watch new tokens":       scriptWatchNewTokens,
	"watch cursors":          scriptWatchCursors,
	"image options":          scriptImageOptions,
	"images":                 scriptImages,
	"images later":           scriptImagesLater,
	"images in stages":       scriptImagesInStages,
	"images in txns":         scriptImagesInTransactions,
	"expanded":               scriptExpanded,
	"expanded tokens":        scriptExpandedTokens,
	"expanded in txns":       scriptExpandedInTransactions,
	"views":                  scriptViews,
	"split":                  scriptSplit,
	"split resume":           scriptSplitResume,
	"split errors":           scriptSplitErrors,
	"transactions":           scriptTransactions,
	"no transaction":         scriptNoTransaction,
	"labels":                 scriptLabels,
	"write concerns":         scriptWriteConcerns,
	"conflicts":              scriptConflicts,
	"read concerns":          scriptReadConcerns,
	"fail points":            scriptFailPoints,
	"bounds":                 scriptBounds,
	"snapshots":              scriptSnapshots,
	"snapshot concerns":      scriptSnapshotConcerns,
	"snapshot cursors":       scriptSnapshotCursors,
	"snapshot schema":        scriptSnapshotSchema,
	"estimates":              scriptEstimates,
	"special collections":    scriptSpecial,
}

// scriptLongStrings makes errors quote strings that are too long to quote.
func scriptLongStrings(s *script) {
	for _, n := range []int{159, 160, 161} {
		long := strings.Repeat("x", n)
		s.run(`{"insert": "c", "documents": [{"_id": "` + long + `"}, {"_id": "` + long + `"}]}`)
		for _, u := range []string{`{"$set": {"_id.b": 1}}`, `{"$inc": {"a": "` + long + `"}}`, `{"$push": {"_id": 1}}`, `{"_id": "` + long + `y"}`} {
			s.run(`{"update": "c", "updates": [{"q": {"_id": "` + long + `"}, "u": ` + u + `}]}`)
		}
	}
}

func scriptInsert(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1}, {"_id": 2}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 3}, {"_id": 1}, {"_id": 4}]}`)
	s.run(`{"insert": "c", "ordered": false, "documents": [{"_id": 3}, {"_id": {"$numberDouble": "1.0"}}, {"_id": 4}]}`)
	s.run(`{"insert": "c", "documents": [{"x": 1, "_id": "last"}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": [1]}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": {"$x": 1}}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": {"a": {"b": 1, "$x": 1}}}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": {"a": [{"$x": 1}]}}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": "dollar", "$x": {"$y": 1}}]}`)
	s.run(`{"insert": "c", "documents": []}`)
	s.run(`{"insert": "c"}`)
	s.run(`{"insert": "c", "documents": 1}`)
	s.run(`{"insert": "c", "documents": [1]}`)
	s.run(`{"insert": "", "documents": [{"_id": 1}]}`)
	s.run(`{"insert": "a$b", "documents": [{"_id": 1}]}`)
	s.run(`{"insert": 1, "documents": [{"_id": 1}]}`)
	s.run(`{"find": "c"}`)
}

func scriptUpdateOperators(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "n": {"x": 1, "y": [1, 2, 3]}, "l": [1, 2, 3], "d": {"$numberDouble": "1.5"}, "b": {"$numberLong": "5"}}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	for _, u := range []string{
		`{"$set": {"a": 2, "n.x": 5}}`,
		`{"$set": {"a": 2}}`,
		`{"$set": {"z": 1, "b2": 1, "n.k": 1, "q.r.s": 1}}`,
		`{"$set": {"n.y.0": 9, "n.y.5": 7}}`,
		`{"$unset": {"a": 1, "nope": 1, "n.k": ""}}`,
		`{"$unset": {"n.y.0": 1}}`,
		`{"$inc": {"d": 1, "b": 1, "new": 3, "n.x": {"$numberLong": "2"}}}`,
		`{"$inc": {"z": {"$numberLong": "4000000000"}}}`,
		`{"$inc": {"z": 0}}`,
		`{"$mul": {"d": 2, "none": 4}}`,
		`{"$min": {"d": 1, "fresh": 3}, "$max": {"b": 100}}`,
		`{"$max": {"b": 1}}`,
		`{"$push": {"l": 4}}`,
		`{"$push": {"l": {"$each": [5, 6]}}}`,
		`{"$push": {"l": {"$each": [0], "$position": 0}}}`,
		`{"$push": {"l": {"$each": [7, 8], "$slice": -3}}}`,
		`{"$push": {"l": {"$each": []}}}`,
		`{"$push": {"m": {"$each": [1, 2]}}}`,
		`{"$addToSet": {"m": 2}}`,
		`{"$addToSet": {"m": {"$each": [2, 3, 4]}}}`,
		`{"$addToSet": {"m": "one"}}`,
		`{"$pull": {"m": 2}}`,
		`{"$pull": {"m": {"$gte": 4}}}`,
		`{"$pullAll": {"m": [1, 9]}}`,
		`{"$pop": {"l": 1}}`,
		`{"$pop": {"l": -1}}`,
		`{"$rename": {"fresh": "renamed"}}`,
		`{"$rename": {"nothing": "nowhere"}}`,
		`{"$rename": {"n.x": "deep.x"}}`,
		`{"$setOnInsert": {"never": 1}}`,
		`{"$currentDate": {"now": true}}`,
		`{"$set": {"n": {"whole": 1}}}`,
		`{"$set": {"e": [{"b": 1}, {"b": 2}]}}`,
		`{"$set": {"e.1.b": 3, "e.0.c": 1}}`,
		`{"$set": {"e.1": 5}, "$unset": {"z": 1}, "$inc": {"b": 1}}`,
	} {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": ` + u + `}]}`)
	}
	s.run(`{"find": "c"}`)
	s.more("w", "c")
}

// scriptUpdateArrays appends to arrays, which makes an event with the new
// elements, or with all of them.
func scriptUpdateArrays(s *script) {
	n := 0
	for _, array := range []string{`[]`, `[1]`, `[1, 2, 3]`} {
		for _, values := range []string{`[7]`, `[7, 8]`, `[{"a": 1}, 8, 9]`} {
			n++
			s.values["n"] = bsondoc.Int32(int32(n))
			a := array
			s.run(`{"insert": "c", "documents": [{"_id": "@n", "l": ` + a + `, "d": {"e": ` + a + `, "0": ` + a + `, "f": {"g": ` + a + `, "1": {"0": ` + a + `}}}, "m": [` + a + `, {"y": ` + a + `}]}]}`)
			s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$project": {"updateDescription.updatedFields": 1}}]`)
			for _, path := range []string{"l", "d.e", "d.0", "d.f.g", "d.f.1.0", "m.0", "m.1.y"} {
				s.run(`{"update": "c", "updates": [{"q": {"_id": "@n"}, "u": {"$push": {"` + path + `": {"$each": ` + values + `}}}}]}`)
			}
			s.more("w", "c")
		}
	}
	s.run(`{"insert": "c", "documents": [{"_id": 0, "a": 1, "b": 1, "l": [1, {"y": 1}, null], "d": {"e": 1}, "none": []}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$project": {"updateDescription": 1}}]`)
	for _, u := range []string{
		`{"$unset": {"l.2": 1}}`, `{"$unset": {"l.2": 1}}`, `{"$push": {"l": {"$each": [], "$slice": 3}}}`, `{"$push": {"l": {"$each": [7], "$slice": -9}}}`, `{"$push": {"l": {"$each": [8], "$slice": 4}}}`,
		`{"$push": {"l": {"$each": [9], "$position": 4}}}`, `{"$push": {"l": {"$each": [10], "$position": 6}}}`, `{"$push": {"l.1.y": 1}}`, `{"$pop": {"a.b": 1}}`, `{"$pull": {"none.x": 1}}`, `{"$pullAll": {"a": [1]}}`, `{"$pop": {"d.e": 1}}`,
		`{"$rename": {"a": "b"}}`, `{"$rename": {"b": "b.c"}}`, `{"$rename": {"l.1.y": "z"}}`, `{"$rename": {"b": "l.x"}}`, `{"$rename": {"b.c": "z"}}`, `{"$rename": {"d.e": "d.f"}}`,
		`{"$set": {"new.0": 1, "new.e": [1]}}`, `{"$rename": {"b": "l.0"}, "$set": {"d.f.g": 1}}`, `{"$set": {"b": 2}, "$rename": {"b": "b.c"}}`,
	} {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 0}, "u": ` + u + `}]}`)
	}
	s.more("w", "c")
}

func scriptUpdateErrors(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "l": [1], "s": "x"}]}`)
	for _, u := range []string{
		`{"$set": {"a.b": 1}}`,
		`{"$set": {"l.x": 1}}`,
		`{"$set": {"_id": 2}}`,
		`{"$set": {"_id": 1}}`,
		`{"$unset": {"_id": 1}}`,
		`{"$set": {"a": 1}, "$inc": {"a": 1}}`,
		`{"$set": {"a": 1, "a.b": 1}}`,
		`{"$inc": {"s": 1}}`,
		`{"$set": {"$x": 1}}`,
		`{"$set": {"dollar.$x": 1}}`,
		`{"$inc": {"a": "x"}}`,
		`{"$push": {"a": 1}}`,
		`{"$addToSet": {"a": 1}}`,
		`{"$pop": {"a": 1}}`,
		`{"$pop": {"l": 2}}`,
		`{"$nosuch": {"a": 1}}`,
		`{"$set": "x"}`,
		`{"$set": {"a..b": 1}}`,
		`{"$rename": {"a": "a"}}`,
		`{"$rename": {"a": 1}}`,
		`{"$set": {}}`,
		`{"a": 1, "$set": {"b": 1}}`,
		`{"_id": 5}`,
	} {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": ` + u + `}]}`)
	}
	s.run(`{"update": "c", "updates": [{"q": {}, "u": {"x": 1}, "multi": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 5}}, "nosuch": 1}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": 1}]}`)
	s.run(`{"find": "c"}`)
}

func scriptReplaceUpsert(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 2}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"b": 1}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"b": 1}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"_id": 1, "c": 1}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"a": {"$gte": 1}}, "u": {"$inc": {"a": 1}}, "multi": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"a": 77}, "u": {"$inc": {"a": 1}}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 10, "k": "x"}, "u": {"$set": {"v": 1}, "$setOnInsert": {"i": 1}}, "upsert": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 11}, "u": {"v": 1}, "upsert": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"k": "new"}, "u": {"$set": {"v": 1}}, "upsert": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": {"$eq": 12}, "r": {"$gt": 1}}, "u": {"$push": {"l": 1}}, "upsert": true}, {"q": {"_id": 12}, "u": {"$push": {"l": 2}}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 12}, "u": {"$push": {"l": 2}}, "upsert": true}]}`)
	s.run(`{"find": "c", "sort": {"_id": 1}}`)
	s.more("w", "c")
}

func scriptDelete(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}, {"_id": 4}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": {"$gt": 1}}, "limit": 1}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {}, "limit": 0}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {}, "limit": 2}]}`)
	s.run(`{"delete": "nosuch", "deletes": [{"q": {}, "limit": 0}]}`)
	s.run(`{"delete": "c", "deletes": [{"limit": 0}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": null, "limit": 0}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": 1, "limit": 0}]}`)
	s.run(`{"update": "c", "updates": [{"u": {"$set": {"a": 1}}}]}`)
	s.run(`{"update": "c", "updates": [{"q": null, "u": {"$set": {"a": 1}}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {}}]}`)
	s.more("w", "c")
}

func scriptFind(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 3}, {"_id": 2, "a": 1}, {"_id": 3, "a": 2}, {"_id": 4}, {"_id": 5, "a": "x"}, {"_id": 6, "a": [9, 0]}]}`)
	s.run(`{"find": "c", "filter": {"a": {"$gte": 2}}}`)
	s.run(`{"find": "c", "sort": {"a": 1}}`)
	s.run(`{"find": "c", "sort": {"a": -1, "_id": 1}, "skip": 1, "limit": 3}`)
	s.run(`{"find": "c", "filter": {"_id": 3}}`)
	s.run(`{"find": "c", "filter": {"_id": {"$numberDouble": "3.0"}}}`)
	s.run(`{"find": "nosuch"}`)
	s.run(`{"find": "c", "limit": 1, "singleBatch": true}`)
	s.run(`{"find": "c", "nosuch": 1}`)
	s.run(`{"find": "c", "batchSize": -1}`)
	s.run(`{"find": "c", "sort": {"a": 2}}`)
	s.run(`{"find": "c", "sort": {"a": "x"}}`)
	s.run(`{"count": "c"}`)
	s.run(`{"count": "c", "query": {"a": {"$exists": false}}}`)
	s.run(`{"distinct": "c", "key": "a"}`)
	s.run(`{"distinct": "c", "key": "a", "query": {"_id": {"$lt": 4}}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$match": {"a": {"$type": "number"}}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$sort": {"_id": -1}}, {"$skip": 1}, {"$limit": 2}, {"$project": {"a": 1}}], "cursor": {}}`)
}

func scriptQuery(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "s": "abc", "n": {"x": 1}}, {"_id": 2, "a": [1, 2, 3], "s": "ABC"}, {"_id": 3, "a": null},
		{"_id": 4, "n": [{"x": 1}, {"y": 2}]}, {"_id": 5, "a": {"$numberDouble": "1.5"}, "n": {"x": null}}, {"_id": 6, "a": "1"}, {"_id": 7, "n": [], "a": [[1, 2]]},
		{"_id": 8, "a": true}, {"_id": 9, "n": [{"x": 1, "z": 5}, {"x": 2, "z": 1}]}, {"_id": 10, "a": {"b": 1, "c": 2}}]}`)
	for _, q := range []string{
		`{"a": 1}`, `{"a": null}`, `{"a": {"$ne": 1}}`, `{"a": {"$gt": 1}}`, `{"a": {"$gte": null}}`, `{"a": {"$in": [1, "1", null]}}`, `{"a": {"$nin": [1, null]}}`,
		`{"a": {"$exists": true}}`, `{"a": {"$exists": false}}`, `{"a": {"$type": "string"}}`, `{"a": {"$type": ["double", 10]}}`, `{"a": {"$type": "array"}}`, `{"a": {"$not": {"$gt": 1}}}`,
		`{"a": {"$all": [1, 2]}}`, `{"a": {"$size": 3}}`, `{"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}`, `{"n": {"$elemMatch": {"x": 1, "z": 5}}}`,
		`{"n.x": 1}`, `{"n.x": null}`, `{"n.x": {"$exists": false}}`, `{"n.0.x": 1}`, `{"n.1.y": {"$gt": 1}}`, `{"n": []}`, `{"a": [1, 2]}`, `{"a": [1, 2, 3]}`,
		`{"s": {"$regex": "^a"}}`, `{"s": {"$regex": "^a", "$options": "i"}}`, `{"s": {"$in": [{"$regularExpression": {"pattern": "bc$", "options": ""}}]}}`,
		`{"$or": [{"a": 1}, {"_id": 6}]}`, `{"$and": [{"a": 1}, {"s": "abc"}]}`, `{"$nor": [{"a": 1}, {"a": null}]}`, `{"a": {"b": 1, "c": 2}}`, `{"a": {"c": 2, "b": 1}}`, `{"a.b": 1}`,
		`{"a": {"$mod": [2, 1]}}`, `{"a": true}`, `{"a": {"$lt": "2"}}`, `{"_id": {"$gt": 3, "$lt": 6}}`, `{"a": {"$eq": [1, 2, 3]}}`,
		`{"$nosuch": 1}`, `{"a": {"$nosuch": 1}}`, `{"$or": []}`, `{"$or": [1]}`, `{"a": {"$in": 1}}`, `{"a": {"$type": "nosuch"}}`,
	} {
		s.run(`{"find": "c", "filter": ` + q + `, "projection": {"_id": 1}}`)
	}
}

func scriptProjection(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "n": {"x": 1, "y": 2}, "l": [{"x": 1, "y": 2}, 3, {"y": 1}]}]}`)
	for _, p := range []string{
		`{"a": 1}`, `{"a": 0}`, `{"_id": 0}`, `{"_id": 0, "a": 1}`, `{"n.x": 1}`, `{"n.x": 0}`, `{"n": {"y": 1}}`, `{"l.x": 1}`, `{"l.x": 0}`, `{"nosuch": 1}`, `{"a.b": 1}`,
		`{"a": 1, "n": 0}`, `{"a": 0, "n": 1}`, `{"a": "$n.x"}`, `{"b": {"$literal": 1}, "a": 1}`, `{"c.d": "$a", "n.x": 1}`, `{"z": "$l.x"}`, `{"z": "$nosuch", "a": true}`, `{"a": 1, "a.b": 1}`,
		`{"x": {"$nosuchOp": 1}}`, `{"x": [{"$nosuchOp": 1}]}`, `{"x": {"y": {"$nosuchOp": 1}}}`, `{"x": {"y": 0}, "n": {"x": 1}}`, `{"a": 0, "b": "$n.x"}`, `{"b": "$n.x", "a": 0}`, `{"a.b": 1, "n.x": 0}`, `{"a": 0, "b": {"$literal": 1}}`, `{"_id": 1, "a": 0}`, `{"_id": 0, "a": 0}`, `{"a": 1, "_id": {"x": 1}}`, `{"x": ["$a", {"k": "$n.y"}]}`,
	} {
		s.run(`{"find": "c", "projection": ` + p + `}`)
		s.run(`{"aggregate": "c", "pipeline": [{"$project": ` + p + `}], "cursor": {}}`)
	}
	for _, stage := range []string{
		`{"$addFields": {"b": "$a", "a": 5, "n.z": "$n.x"}}`, `{"$set": {"l.x": 9}}`, `{"$set": {"a.b": 1}}`, `{"$addFields": {"o": {"p": "$a", "q": [1, "$a", "$nosuch"]}}}`, `{"$unset": "a"}`, `{"$unset": ["a", "n.x"]}`,
		`{"$replaceRoot": {"newRoot": "$n"}}`, `{"$replaceWith": {"k": "$a"}}`, `{"$set": {"all": "$$ROOT"}}`, `{"$set": {"a": "$$REMOVE"}}`, `{"$project": {}}`, `{"$project": 1}`, `{"$nosuch": 1}`,
		`{"$set": {"a": {"$nosuchExpression": 1}}}`, `{"$set": {"a": [{"$nosuchExpression": 1}]}}`, `{"$set": {"n": {"x": {"z": "$a"}, "w": 0}}}`, `{"$set": {"_id": 0, "a.k": true}}`,
	} {
		s.run(`{"aggregate": "c", "pipeline": [` + stage + `], "cursor": {}}`)
	}
}

func scriptFindAndModify(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1}, {"_id": 2, "a": 2}, {"_id": 3, "a": 3}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"findAndModify": "c", "query": {"_id": 1}, "update": {"$inc": {"a": 10}}}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 1}, "update": {"$inc": {"a": 10}}, "new": true}`)
	s.run(`{"findAndModify": "c", "query": {}, "sort": {"a": -1}, "remove": true}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 9}, "remove": true}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 9}, "update": {"$set": {"a": 1}}}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 9}, "update": {"$set": {"a": 1}}, "upsert": true}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 10}, "update": {"b": 1}, "upsert": true, "new": true, "fields": {"_id": 0}}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 2}, "update": {"b": 1}, "remove": true}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 2}}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 2}, "update": {"$set": {"_id": 3}}}`)
	s.more("w", "c")
}

func scriptIndexes(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "k": [1, 2]}, {"_id": 2, "a": 2, "k": [3]}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "unique": true}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "unique": true}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": -1}, "name": "a_1"}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"k": 1}, "name": "k_1", "unique": true, "sparse": true}]}`)
	s.run(`{"createIndexes": "fresh", "indexes": [{"key": {"a": 1, "b": 1}, "name": "a_b"}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 3, "a": 1}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 3, "a": 5, "k": [4, 2]}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 3}, {"_id": 4}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2}}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 7}}}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 5, "a": 1}]}`)
	s.run(`{"listIndexes": "c"}`)
	s.run(`{"listIndexes": "nosuch"}`)
	s.run(`{"dropIndexes": "c", "index": "a_1"}`)
	s.run(`{"dropIndexes": "c", "index": "nosuch"}`)
	s.run(`{"dropIndexes": "c", "index": "_id_"}`)
	s.run(`{"insert": "c", "documents": [{"_id": 6, "a": 1}]}`)
	s.run(`{"createIndexes": "c", "indexes": []}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1}}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"name": "x"}]}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "x", "nosuch": 1}]}`)
}

func scriptCollections(s *script) {
	s.run(`{"create": "c"}`)
	s.run(`{"create": "c"}`)
	s.run(`{"insert": "d", "documents": [{"_id": 1}]}`)
	s.run(`{"listCollections": 1, "filter": {"name": "c"}}`)
	s.run(`{"listCollections": 1, "nameOnly": true, "filter": {"name": "d"}}`)
	s.run(`admin {"listDatabases": 1, "nameOnly": true, "filter": {"name": "DB"}}`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.e"}`)
	s.run(`admin {"renameCollection": "DB.nosuch", "to": "DB.f"}`)
	s.run(`admin {"renameCollection": "DB.e", "to": "DB.d"}`)
	s.run(`admin {"renameCollection": "DB.e", "to": "DB.d", "dropTarget": true}`)
	s.run(`{"find": "d"}`)
	s.run(`{"drop": "nosuch"}`)
	s.run(`{"drop": "d"}`)
	s.run(`{"drop": "d"}`)
	s.run(`{"insert": "d", "documents": [{"_id": 1}]}`)
	s.run(`{"dropDatabase": 1}`)
	s.run(`{"dropDatabase": 1}`)
	s.run(`{"find": "d"}`)
}

func scriptCursors(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}, {"_id": 4}, {"_id": 5}]}`)
	s.open("f", `{"find": "c", "batchSize": 2}`)
	s.values["id"] = bsondoc.Int64(s.cursors["f"])
	s.run(`{"getMore": "@id", "collection": "other"}`)
	s.run(`{"getMore": "@id", "collection": "c", "batchSize": 2}`)
	s.run(`{"getMore": "@id", "collection": "c"}`)
	s.run(`{"getMore": "@id", "collection": "c"}`)
	s.open("g", `{"find": "c", "batchSize": 0}`)
	s.values["id"] = bsondoc.Int64(s.cursors["g"])
	s.run(`{"getMore": "@id", "collection": "c", "batchSize": -1}`)
	s.run(`{"killCursors": "c", "cursors": ["@id", {"$numberLong": "77"}]}`)
	s.run(`{"getMore": "@id", "collection": "c"}`)
	s.run(`{"getMore": 1, "collection": "c"}`)
	s.run(`{"getMore": {"$numberLong": "12345"}, "collection": "c"}`)
	s.run(`{"getMore": {"$numberLong": "12345"}, "collection": "c", "nosuch": 1}`)
}

func scriptUnknown(s *script) {
	s.run(`{"nosuchCommand": 1}`)
	s.run(`{"shardCollection": 1}`)
	s.run(`admin {"getParameter": 1, "enableTestCommands": 1}`)
	s.run(`admin {"getParameter": 1, "comment": "x", "enableTestCommands": 0}`)
	s.run(`{"getParameter": 1, "enableTestCommands": 1}`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}], "nosuch": 1}`)
	s.run(`{"ping": 1}`)
}
