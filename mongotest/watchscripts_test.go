package mongotest

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

func scriptWatchOpen(s *script) {
	s.run(`{"create": "c"}`)
	for _, level := range []string{`"c"`, `"nosuch"`, `1`} {
		s.watch("w", level, `[{"$changeStream": {}}]`)
	}
	s.run(`admin {"aggregate": 1, "pipeline": [{"$changeStream": {"allChangesForCluster": true}}], "cursor": {}}`)
	s.run(`admin {"aggregate": 1, "pipeline": [{"$changeStream": {}}], "cursor": {}}`)
	s.run(`admin {"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}}`)
	s.run(`admin {"aggregate": "c", "pipeline": [{"$changeStream": {"allChangesForCluster": true}}], "cursor": {}}`)
	s.watch("w", `"system.views"`, `[{"$changeStream": {}}]`)
	s.watch("w", `1`, `[{"$changeStream": {"allChangesForCluster": true}}]`)
	s.watch("w", `"c"`, `[{"$changeStream": {"allChangesForCluster": true}}]`)
	for _, level := range []string{"local", "majority", "available", "snapshot", "linearizable"} {
		s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}, "readConcern": {"level": "` + level + `"}}`)
	}
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {"batchSize": 0}, "maxTimeMS": 5000, "allowDiskUse": true, "comment": "x"}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {}}]}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": 1}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$match": {}}, {"$changeStream": {}}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStreamSplitLargeEvent": {}}], "cursor": {}}`)
}

func scriptWatchOptions(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {"startAtOperationTime": {"$timestamp": {"t": 1, "i": 1}}}}]`)
	for _, o := range []string{
		`"fullDocument": "default"`, `"fullDocument": "updateLookup"`, `"fullDocument": "nope"`, `"fullDocument": 1`, `"fullDocumentBeforeChange": "off"`,
		`"fullDocumentBeforeChange": "nope"`, `"fullDocumentBeforeChange": "updateLookup"`, `"showExpandedEvents": 1`, `"showExpandedEvents": false`, `"nosuchOption": true`, `"allChangesForCluster": 1`,
		`"resumeAfter": null`, `"startAtOperationTime": null`, `"startAtOperationTime": "now"`, `"startAtOperationTime": {"$date": "2024-01-01T00:00:00Z"}`,
		`"resumeAfter": "@w.0", "startAfter": "@w.0"`, `"resumeAfter": "@w.0", "startAtOperationTime": {"$timestamp": {"t": 1, "i": 1}}`,
		`"resumeAfter": "@w.0", "startAfter": "@w.0", "startAtOperationTime": {"$timestamp": {"t": 1, "i": 1}}`,
	} {
		s.watch("x", `"c"`, `[{"$changeStream": {`+o+`}}]`)
	}
}

func scriptWatchStages(s *script) {
	s.run(`{"create": "c"}`)
	for _, stage := range []string{
		`{"$match": {"operationType": "insert"}}`, `{"$project": {"fullDocument": 1}}`, `{"$addFields": {"x": 1}}`, `{"$set": {"x": 1}}`, `{"$unset": "fullDocument"}`, `{"$replaceRoot": {"newRoot": "$$ROOT"}}`, `{"$replaceWith": "$$ROOT"}`,
		`{"$group": {"_id": 1}}`, `{"$sort": {"_id": 1}}`, `{"$limit": 1}`, `{"$skip": 1}`, `{"$count": "n"}`, `{"$out": "o"}`, `{"$merge": {"into": "o"}}`, `{"$facet": {"a": [{"$match": {}}]}}`, `{"$changeStream": {}}`, `{"$unionWith": "c"}`, `{"$sample": {"size": 1}}`,
		`{"$unwind": "$fullDocument"}`, `{"$nosuch": {}}`, `{"$match": {"$where": "true"}}`, `{"$project": {"x": {"$nosuchOp": 1}}}`, `{"$match": 1}`,
	} {
		s.watch("w", `"c"`, `[{"$changeStream": {}}, `+stage+`]`)
	}
	for i, stages := range []string{
		`{"$project": {"_id": 0}}`, `{"$unset": "_id"}`, `{"$set": {"_id": 1}}`, `{"$set": {"_id.x": 1}}`, `{"$project": {"operationType": 1}}`, `{"$project": {"_id": 1}}`, `{"$replaceWith": {"_id": "$_id", "k": "$documentKey"}}`,
		`{"$replaceRoot": {"newRoot": "$fullDocument"}}`, `{"$match": {"_id": {"$exists": false}}}`, `{"$match": {"fullDocument._id": {"$gte": 0}}}, {"$project": {"fullDocument": 1, "ns.coll": 1}}`,
		`{"$addFields": {"db": "$ns.db", "fullDocument.more": {"deep": "$operationType"}}}`, `{"$project": {"ns": 0, "fullDocument._id": 0, "wallTime": 0}}`, `{"$match": {"$or": [{"operationType": "delete"}, {"fullDocument.v": {"$gt": 3}}]}}`,
	} {
		s.watch("w", `"c"`, `[{"$changeStream": {}}, `+stages+`]`)
		s.values["n"] = bsondoc.Int32(int32(i))
		s.run(`{"insert": "c", "documents": [{"_id": "@n", "v": "@n"}]}`)
		s.more("w", "c")
		s.more("w", "c")
	}
}

func scriptWatchResume(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}]}`)
	s.more("w", "c")
	s.open("f", `{"find": "c"}`)
	for _, how := range []string{"resumeAfter", "startAfter"} {
		s.watch("x", `"c"`, `[{"$changeStream": {"`+how+`": "@w.0"}}]`)
		s.watch("x", `1`, `[{"$changeStream": {"`+how+`": "@w.1"}}]`)
		s.watch("x", `"c"`, `[{"$changeStream": {"`+how+`": "@w.2"}}]`)
		s.more("x", "c")
		s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"` + how + `": "@w.0"}}], "cursor": {"batchSize": 1}}`)
		s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"` + how + `": "@w.0"}}], "cursor": {"batchSize": 0}}`)
		s.watch("x", `"c"`, `[{"$changeStream": {"`+how+`": "@w.0"}}, {"$match": {"fullDocument._id": 3}}]`)
		s.watch("x", `"other"`, `[{"$changeStream": {"`+how+`": "@w.0"}}]`)
		s.watch("x", `"c"`, `[{"$changeStream": {"`+how+`": "@w.mark"}}]`)
	}
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"startAtOperationTime": {"$timestamp": {"t": 1, "i": 1}}}}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"startAtOperationTime": {"$timestamp": {"t": 0, "i": 0}}}}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"startAtOperationTime": {"$timestamp": {"t": 4000000000, "i": 1}}}}], "cursor": {}}`)
	s.note("a changed $match opens and fails late")
	s.watch("late", `"c"`, `[{"$changeStream": {"resumeAfter": "@w.2"}}, {"$match": {"fullDocument._id": 5}}]`)
	s.more("late", "c")
	s.watch("other", `"other"`, `[{"$changeStream": {"resumeAfter": "@w.2"}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 4}]}`)
	s.more("late", "c")
	s.run(`{"insert": "c", "documents": [{"_id": 5}]}`)
	s.more("late", "c")
	s.more("late", "c")
	s.run(`{"insert": "other", "documents": [{"_id": 5}]}`)
	s.more("other", "other")
}

// scriptWatchTokens makes tokens up.
func scriptWatchTokens(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`)
	s.more("w", "c")
	data := s.values["w.0"].Document().Lookup("_data").StringValue()
	forge := func(name, data string) {
		s.keep(name, bsondoc.Value(bsondoc.New().Str("_data", data).Done()))
	}
	forge("other id", strings.Replace(data, "2B020004", "2BAA0004", 1))
	forge("future", "82FFFFFFF0"+data[10:])
	forge("past", "8200000001"+data[10:])
	forge("hwm", data[:18]+"2B0229296E04")
	forge("future hwm", "82FFFFFFF0"+data[10:18]+"2B0229296E04")
	forge("v2 hwm", data[:18]+"2B0429296E1404")
	for _, name := range []string{"other id", "future", "past", "hwm", "v2 hwm", "future hwm"} {
		s.note("%s", name)
		s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@`+name+`"}}]`)
	}
	s.watch("future", `"c"`, `[{"$changeStream": {"resumeAfter": "@future"}}]`)
	s.watch("future hwm", `"c"`, `[{"$changeStream": {"resumeAfter": "@future hwm"}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 3}]}`)
	s.more("future", "c")
	s.more("future hwm", "c")
}

func scriptWatchMalformed(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`)
	s.more("w", "c")
	data := s.values["w.0"].Document().Lookup("_data").StringValue()
	for _, token := range []string{
		`{}`, `"82"`, `1`, `{"x": 1}`, `{"_data": 1}`, `{"_data": ""}`, `{"_data": "zz"}`, `{"_data": "DATA0"}`, `{"_data": "` + data[:18] + `"}`, `{"_data": "` + data[:22] + `"}`,
		`{"_data": "` + strings.ToLower(data) + `"}`, `{"_data": "` + data[:18] + "2B06" + data[22:] + `"}`, `{"_data": "DATA", "x": 1}`, `{"_data": "DATA", "_typeBits": "x"}`,
		`{"_data": "DATA", "_typeBits": {"$binary": {"base64": "", "subType": "00"}}}`,
	} {
		token = strings.ReplaceAll(token, "DATA", data)
		s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": `+token+`}}]`)
	}
}

func scriptWatchBatches(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.more("w", "c")
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}, {"_id": 4}, {"_id": 5}]}`)
	for range 4 {
		s.more("w", "c", `, "batchSize": 2`)
	}
	s.watch("one", `"c"`, `[{"$changeStream": {"resumeAfter": "@w.0"}}]`)
	s.watch("all", `"c"`, `[{"$changeStream": {}}]`)
	s.watch("none", `"c"`, `[{"$changeStream": {}}, {"$match": {"operationType": "delete"}}]`)
	s.watch("first", `"c"`, `[{"$changeStream": {}}, {"$match": {"documentKey._id": 11}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 11}, {"_id": 12}, {"_id": 13}]}`)
	s.run(`{"insert": "elsewhere", "documents": [{"_id": 1}]}`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "elsewhere", "documents": [{"_id": 2}]}`)
	s.more("db", "$cmd.aggregate")
	for _, name := range []string{"all", "none", "first"} {
		s.more(name, "c")
		s.more(name, "c")
	}
}

func scriptWatchIDs(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	for _, id := range []string{`"s"`, `1.5`, `{"$numberLong": "7"}`, `{"a": 1, "b": "x"}`, `true`, `null`, `{"$date": "2024-01-01T00:00:00Z"}`, `{"$minKey": 1}`, `{"$numberDecimal": "1.10"}`, `-3`,
		`{"$binary": {"base64": "AQID", "subType": "00"}}`, `{"$timestamp": {"t": 5, "i": 6}}`, `{"$numberLong": "9223372036854775807"}`, `""`} {
		s.run(`{"insert": "c", "documents": [{"_id": ` + id + `}]}`)
	}
	reply := s.more("w", "c")
	for _, v := range bsondoc.Items(reply.Lookup("cursor", "nextBatch")) {
		s.note("%s", s.show(v.Document().Lookup("_id", "_typeBits")))
	}
	for _, n := range []string{"1", "2", "8", "12"} {
		s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@w.`+n+`"}}, {"$project": {"documentKey": 1}}]`)
	}
}

func scriptWatchLookup(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {"fullDocument": "updateLookup"}}]`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}}, {"q": {"_id": 1}, "u": {"$set": {"a": 2}}}, {"q": {"_id": 2}, "u": {"$set": {"a": 1}}}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	s.more("w", "c")
}

func scriptWatchDrop(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
	s.run(`{"drop": "c"}`)
	s.more("w", "c")
	s.more("w", "c")
	s.more("db", "$cmd.aggregate")
	s.run(`{"insert": "c", "documents": [{"_id": 3}]}`)
	for _, how := range []string{"resumeAfter", "startAfter"} {
		for _, token := range []string{"w.0", "w.1", "w.2"} {
			s.watch("x", `"c"`, `[{"$changeStream": {"`+how+`": "@`+token+`"}}]`)
			s.watch("x", `1`, `[{"$changeStream": {"`+how+`": "@`+token+`"}}]`)
		}
	}
	s.note("another collection, and nothing new")
	s.watch("other", `"other"`, `[{"$changeStream": {"startAfter": "@w.2"}}]`)
	s.run(`{"insert": "other", "documents": [{"_id": 1}]}`)
	s.more("other", "other")
	s.note("startAfter an invalidate, with nothing behind it")
	s.watch("v", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"drop": "c"}`)
	s.more("v", "c")
	s.watch("x", `"c"`, `[{"$changeStream": {"startAfter": "@v.1"}}]`)
	s.more("x", "c")
	s.watch("y", `"c"`, `[{"$changeStream": {"resumeAfter": "@x.mark"}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 4}]}`)
	s.more("x", "c")
}

func scriptWatchHiddenDrop(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$match": {"operationType": "insert"}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
	s.run(`{"drop": "c"}`)
	s.more("w", "c")
	s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@w.mark"}}, {"$match": {"operationType": "insert"}}]`)
	s.watch("x", `"c"`, `[{"$changeStream": {"startAfter": "@w.mark"}}, {"$match": {"operationType": "insert"}}]`)
}

func scriptWatchRename(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.run(`{"insert": "t", "documents": [{"_id": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.watch("t", `"t"`, `[{"$changeStream": {}}]`)
	s.watch("e", `"e"`, `[{"$changeStream": {}}]`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.e"}`)
	s.more("w", "c")
	s.more("e", "e")
	s.watch("x", `"c"`, `[{"$changeStream": {"startAfter": "@w.1"}}]`)
	s.watch("x", `"e"`, `[{"$changeStream": {"startAfter": "@w.1"}}]`)
	s.watch("x", `"e"`, `[{"$changeStream": {"resumeAfter": "@w.0"}}]`)
	s.run(`admin {"renameCollection": "DB.e", "to": "DB.t", "dropTarget": true}`)
	s.more("t", "t")
	s.more("db", "$cmd.aggregate")
}

func scriptWatchDatabase(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`{"dropDatabase": 1}`)
	s.more("w", "c")
	s.more("db", "$cmd.aggregate")
	s.more("db", "$cmd.aggregate")
	s.run(`{"insert": "c", "documents": [{"_id": 5}]}`)
	s.watch("x", `1`, `[{"$changeStream": {"resumeAfter": "@db.2"}}]`)
	s.watch("x", `1`, `[{"$changeStream": {"startAfter": "@db.2"}}]`)
	s.watch("x", `1`, `[{"$changeStream": {"resumeAfter": "@db.1"}}]`)
	s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@db.1"}}]`)
	s.run(`admin {"aggregate": 1, "pipeline": [{"$changeStream": {"allChangesForCluster": true, "resumeAfter": "@db.1"}}], "cursor": {}}`)
}

// scriptWatchEmpty: a database without collections may still exist, and
// dropping it makes an event.
func scriptWatchEmpty(s *script) {
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`{"dropDatabase": 1}`)
	s.run(`{"find": "c"}`)
	s.run(`{"dropDatabase": 1}`)
	s.more("db", "$cmd.aggregate")
	s.run(`{"create": "c"}`)
	s.run(`{"drop": "c"}`)
	s.run(`admin {"listDatabases": 1, "nameOnly": true, "filter": {"name": "DB"}}`)
	s.run(`{"dropDatabase": 1}`)
	s.run(`{"dropDatabase": 1}`)
	s.more("db", "$cmd.aggregate")
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	s.run(`{"dropDatabase": 1}`)
	s.more("db", "$cmd.aggregate")
}

// scriptWatchVersion2: a stream resumed from a token of version 2 continues
// with version 2.
func scriptWatchVersion2(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.more("w", "c")
	data := s.values["w.0"].Document().Lookup("_data").StringValue()
	s.keep("v2", bsondoc.Value(bsondoc.New().Str("_data", data[:18]+"2B0429296E1404").Done()))
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}}, {"q": {"_id": 1}, "u": {"b": 1}}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.e"}`)
	s.run(`{"drop": "e"}`)
	s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@v2"}}]`)
	s.watch("y", `1`, `[{"$changeStream": {"resumeAfter": "@v2"}}]`)
	s.more("y", "$cmd.aggregate")
	s.watch("z", `1`, `[{"$changeStream": {"resumeAfter": "@y.1"}}]`)
}

// scriptWatchNewTokens requests tokens of version 2, the default of newer
// servers.
func scriptWatchNewTokens(s *script) {
	open := func(name, coll, options, v2, more string) {
		s.open(name, `{"aggregate": `+coll+`, "pipeline": [{"$changeStream": {`+options+`}}], "$_generateV2ResumeTokens": `+v2+`, "cursor": {`+more+`}}`)
	}
	for _, v := range []string{`true`, `false`, `1`, `null`, `"x"`} {
		open("x", `"c"`, ``, v, ``)
	}
	open("all", `1`, ``, `true`, ``)
	open("w", `"c"`, expanded, `true`, ``)
	s.watch("old", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": {"$numberLong": "2"}}, {"_id": {"a": 1.5}}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}}, {"q": {"_id": 1}, "u": {"b": 1}}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": 4}, {"_id": 5}]}`)
	in(1, false, `admin {"commitTransaction": 1}`)
	s.more("old", "c")
	open("x", `"c"`, `"resumeAfter": "@old.0"`, `true`, ``)
	open("x", `"c"`, `"resumeAfter": "@old.0"`, `true`, `"batchSize": 0`)
	open("x", `"c"`, `"resumeAfter": "@x.mark"`, `true`, `"batchSize": 0`)
	open("x", `"c"`, `"resumeAfter": "@old.1"`, `true`, `"batchSize": 1`)
	open("y", `"c"`, `"resumeAfter": "@x.0"`, `false`, `"batchSize": 1`)
	open("y", `"c"`, `"resumeAfter": "@y.0"`, `false`, `"batchSize": 1`)
	s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@x.0"}}, {"$project": {"documentKey": 1}}]`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@y.0"}}, ` + split + `], "$_generateV2ResumeTokens": false, "cursor": {}}`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.d"}`)
	s.run(`{"drop": "d"}`)
	s.run(`{"dropDatabase": 1}`)
	s.more("w", "c")
	s.more("all", "$cmd.aggregate")
	s.run(`{"aggregate": "c", "pipeline": [], "$_generateV2ResumeTokens": true, "cursor": {}}`)
	s.run(`{"find": "c", "$_generateV2ResumeTokens": true}`)
}

func scriptWatchCursors(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.more("w", "other")
	s.more("w", "c", `, "batchSize": 0`)
	s.more("w", "c", `, "batchSize": -1`)
	s.more("w", "c", `, "nosuch": 1`)
	s.values["id"] = bsondoc.Int64(s.cursors["w"])
	s.run(`{"getMore": "@id", "collection": "c", "maxTimeMS": -1}`)
	for _, name := range []string{"one", "two"} {
		u := newUUID()
		s.keep(name, bsondoc.Value(bsondoc.New().Binary("id", bson.TypeBinaryUUID, u[:]).Done()))
	}
	s.more("w", "c", `, "lsid": "@one"`)
	s.open("v", `{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}, "lsid": "@one"}`)
	s.more("v", "c")
	s.more("v", "c", `, "lsid": "@two"`)
	s.more("v", "c", `, "lsid": "@one"`)
	s.values["id"] = bsondoc.Int64(s.cursors["w"])
	s.run(`{"killCursors": "c", "cursors": ["@id", {"$numberLong": "77"}]}`)
	s.more("w", "c")
}

// session runs commands in transactions of one session, by their numbers.
func (s *script) session() func(n int, start bool, command string) {
	u := newUUID()
	s.keep("lsid", bsondoc.Value(bsondoc.New().Binary("id", bson.TypeBinaryUUID, u[:]).Done()))
	return func(n int, start bool, command string) {
		s.values["n"] = bsondoc.Int64(int64(n))
		text := `, "lsid": "@lsid", "txnNumber": "@n", "autocommit": false`
		if start {
			text += `, "startTransaction": true`
		}
		s.run(command[:len(command)-1] + text + "}")
	}
}

func scriptTransactions(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 100}]}`)
	s.run(`{"create": "e"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": 0, "pad": ""}]}`)
	in(1, false, `{"insert": "e", "documents": [{"_id": 1}]}`)
	in(1, false, `{"insert": "c", "documents": [{"_id": 2}, {"_id": 3}]}`)
	in(1, false, `{"update": "c", "updates": [{"q": {"_id": 0}, "u": {"$set": {"x": 1}}}]}`)
	in(1, false, `{"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	in(1, false, `{"find": "c", "sort": {"_id": 1}}`)
	s.run(`{"find": "c"}`)
	in(1, false, `admin {"commitTransaction": 1}`)
	in(1, false, `admin {"commitTransaction": 1}`)
	s.run(`{"find": "c", "sort": {"_id": 1}}`)
	in(2, true, `{"insert": "c", "documents": [{"_id": 50}]}`)
	in(2, false, `admin {"abortTransaction": 1}`)
	in(2, false, `{"insert": "c", "documents": [{"_id": 51}]}`)
	in(3, true, `{"insert": "c", "documents": [{"_id": 0}]}`)
	in(3, false, `admin {"commitTransaction": 1}`)
	in(4, true, `{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}}`)
	in(5, true, `{"find": "c", "limit": 1}`)
	in(5, false, `admin {"commitTransaction": 1}`)
	in(4, true, `{"find": "c"}`)
	s.run(`{"insert": "c", "documents": [{"_id": 101}]}`)
	s.more("w", "c")
	s.watch("x", `"c"`, `[{"$changeStream": {"resumeAfter": "@w.1"}}, {"$project": {"documentKey": 1, "operationType": 1}}]`)
	s.more("db", "$cmd.aggregate")
}

func scriptNoTransaction(s *script) {
	s.session()
	s.values["n"] = bsondoc.Int64(1)
	for _, command := range []string{`"commitTransaction": 1`, `"abortTransaction": 1`, `"insert": "c", "documents": [{"_id": 1}]`} {
		for _, with := range []string{``, `, "autocommit": false`, `, "lsid": "@lsid"`, `, "lsid": "@lsid", "autocommit": false`, `, "lsid": "@lsid", "txnNumber": "@n"`, `, "txnNumber": "@n"`,
			`, "startTransaction": true`, `, "lsid": "@lsid", "txnNumber": "@n", "startTransaction": true`, `, "lsid": "@lsid", "txnNumber": "@n", "autocommit": true`} {
			s.run(`admin {` + command + with + `}`)
		}
	}
	s.run(`{"commitTransaction": 1}`)
	s.run(`admin {"delete": "c", "deletes": [{"q": {}, "limit": 0}]}`)
}

// failPoint sets a fail point, and records how often it has been applied since
// it was first set.
func (s *script) failPoint(name, mode, data string) {
	s.t.Helper()
	reply := s.client.call("admin", s.parse(`{"configureFailPoint": "`+name+`", "mode": `+mode+`, "data": `+data+`}`))
	n, ok := bsondoc.Int(reply.Lookup("count"))
	if !ok {
		s.t.Fatalf("the fail point %s is refused: %s", name, reply)
	}
	if _, known := s.hits[name]; !known {
		s.hits[name] = n
	}
	s.note("%s %s: %s, after %d", name, mode, data, n-s.hits[name])
}

func scriptFailPoints(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	set := s.failPoint
	set("failCommand", `{"times": 1}`, `{"failCommands": ["ping"], "errorCode": 6}`)
	s.run(`{"ping": 1}`)
	s.run(`{"ping": 1}`)
	for _, code := range []string{"6", "43", "50", "91", "136", "189", "216", "237", "280", "286", "10107", "11601", "13435", "12345"} {
		set("failCommand", `{"times": 2}`, `{"failCommands": ["getMore", "aggregate"], "errorCode": `+code+`}`)
		s.more("w", "c")
		s.watch("x", `"c"`, `[{"$changeStream": {}}]`)
	}
	set("failCommand", `{"times": 1}`, `{"failCommands": ["getMore"], "errorCode": 6, "errorLabels": ["Mine"]}`)
	s.more("w", "c")
	set("failCommand", `{"times": 1}`, `{"failCommands": ["aggregate"], "errorCode": 6, "errorLabels": []}`)
	s.watch("x", `"c"`, `[{"$changeStream": {}}]`)
	set("failCommand", `{"times": 1}`, `{"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 5}`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	set("failCommand", `{"times": 1}`, `{"failCommands": ["insert"], "writeConcernError": {"code": 64, "errmsg": "x"}}`)
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
	set("failCommand", `"off"`, `{}`)
	for _, code := range []string{"6", "43", "280"} {
		s.watch("v", `"c"`, `[{"$changeStream": {}}]`)
		set("failGetMoreAfterCursorCheckout", `{"times": 1}`, `{"errorCode": `+code+`}`)
		s.more("v", "c")
		s.more("v", "c")
	}
	set("failGetMoreAfterCursorCheckout", `"off"`, `{}`)
}

// scriptLabels applies fail points to writes and transactions: the error labels
// that drivers act on, and the state of a transaction afterwards.
func scriptLabels(s *script) {
	s.run(`{"create": "c"}`)
	in := s.session()
	n, id := 0, 0
	set := func(command, data string) {
		s.failPoint("failCommand", `{"times": 1}`, `{"failCommands": ["`+command+`"], `+data+`}`)
	}
	insert := func() string {
		id++
		return `{"insert": "c", "documents": [{"_id": ` + strconv.Itoa(id) + `}]}`
	}
	for _, data := range []string{
		`"writeConcernError": {"code": 91, "errmsg": "x"}`, `"writeConcernError": {"code": 64, "errmsg": "x"}`, `"writeConcernError": {"code": 91, "errmsg": "x"}, "errorLabels": ["Mine"]`,
		`"writeConcernError": {"code": 91, "errmsg": "x"}, "errorLabels": []`, `"writeConcernError": {"code": 251, "errmsg": "x"}`, `"errorCode": 24`, `"errorCode": 91`, `"errorCode": 112`, `"errorCode": 239`,
		`"errorCode": 246`, `"errorCode": 251`, `"errorCode": 267`, `"errorCode": 2`, `"errorCode": 251, "errorLabels": ["Mine"]`,
	} {
		set("insert", data)
		s.run(insert())
		set("insert", data)
		n++
		s.values["n"] = bsondoc.Int64(int64(n))
		text := insert()
		s.run(text[:len(text)-1] + `, "lsid": "@lsid", "txnNumber": "@n"}`)
		n++
		set("insert", data)
		in(n, true, insert())
		if strings.HasPrefix(data, `"errorCode"`) {
			in(n, true, insert())
		}
		set("insert", data)
		in(n, false, insert())
		in(n, false, insert())
		for _, end := range []string{"commitTransaction", "abortTransaction"} {
			n++
			in(n, true, insert())
			set(end, data)
			in(n, false, `admin {"`+end+`": 1}`)
			in(n, false, `admin {"`+end+`": 1}`)
		}
	}
}

// scriptWriteConcerns uses write concerns that one node can't satisfy.
func scriptWriteConcerns(s *script) {
	s.run(`{"create": "c"}`)
	for n, concern := range []string{`{"w": 1}`, `{"w": "majority"}`, `{"j": true}`, `{}`, `{"w": 1, "wtimeout": 5}`, `{"w": 2}`, `{"w": 50, "wtimeout": 100}`, `{"w": 3, "j": true}`, `{"w": "nosuch"}`} {
		s.values["n"] = bsondoc.Int32(int32(n))
		s.run(`{"insert": "c", "documents": [{"_id": "@n"}], "writeConcern": ` + concern + `}`)
	}
	s.run(`{"create": "d", "writeConcern": {"w": 2}}`)
	s.run(`{"find": "c"}`)
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": "in"}]}`)
	in(1, false, `admin {"commitTransaction": 1, "writeConcern": {"w": 2}}`)
}

// scriptReadConcerns uses read concerns that a command doesn't allow.
func scriptReadConcerns(s *script) {
	s.run(`{"create": "c"}`)
	for _, command := range []string{`"find": "c"`, `"aggregate": "c", "pipeline": [], "cursor": {}`, `"count": "c"`, `"distinct": "c", "key": "a"`, `"insert": "c", "documents": [{"_id": 1}]`, `"listIndexes": "c"`, `"ping": 1`} {
		for _, concern := range []string{`{}`, `{"level": "local"}`, `{"level": "available"}`, `{"level": "majority"}`, `{"level": "nosuch"}`, `{"nosuch": 1}`} {
			s.run(`{` + command + `, "readConcern": ` + concern + `}`)
		}
	}
	for _, command := range []string{`"count": "c"`, `"insert": "c", "documents": [{"_id": 2}]`, `"listIndexes": "c"`, `"listCollections": 1`, `"ping": 1`} {
		s.run(`{` + command + `, "readConcern": {"level": "snapshot"}}`)
	}
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": 3}], "readConcern": {"level": "snapshot"}}`)
	in(1, false, `{"find": "c", "filter": {"_id": 3}}`)
	in(1, false, `admin {"abortTransaction": 1}`)
}

// scriptConflicts has two transactions write the same documents.
func scriptConflicts(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}]}`)
	first, lsid := s.session(), s.values["lsid"]
	second, other := s.session(), s.values["lsid"]
	n := 0
	for _, write := range []string{
		`{"insert": "c", "documents": [{"_id": 4}]}`, `{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}}]}`,
		`{"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`, `{"findAndModify": "c", "query": {"_id": 3}, "remove": true}`,
	} {
		for _, end := range []string{`admin {"abortTransaction": 1}`, `admin {"commitTransaction": 1}`} {
			n++
			s.values["lsid"] = lsid
			first(n, true, write)
			s.values["lsid"] = other
			second(n, true, `{"find": "c", "filter": {"_id": 100}}`)
			second(n, false, write)
			second(n, false, `{"find": "c"}`)
			s.values["lsid"] = lsid
			first(n, false, end)
			s.run(`{"find": "c", "sort": {"_id": 1}}`)
		}
	}
	s.note("one that is left for another on its session")
	n++
	s.values["lsid"] = lsid
	first(n, true, `{"insert": "c", "documents": [{"_id": 9}]}`)
	first(n+1, true, `{"find": "c", "filter": {"_id": 100}}`)
	first(n+1, false, `admin {"abortTransaction": 1}`)
	s.values["lsid"] = other
	second(n, true, `{"insert": "c", "documents": [{"_id": 9}]}`)
	second(n, false, `admin {"commitTransaction": 1}`)
	s.note("one that began to read before somebody else inserted")
	n++
	second(n, true, `{"find": "c", "filter": {"_id": 100}}`)
	s.run(`{"insert": "c", "documents": [{"_id": 10}]}`)
	second(n, false, `{"insert": "c", "documents": [{"_id": 10}]}`)
}
