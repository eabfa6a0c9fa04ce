package mongotest

import (
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// now keeps the time of the last write, which a majority has.
func (s *script) now(name string) {
	s.t.Helper()
	reply := s.client.call(s.db, s.parse(`{"insert": "clock", "documents": [{}], "writeConcern": {"w": "majority"}}`))
	s.keep(name, reply.Lookup("operationTime"))
}

// at returns the fields of a command that reads at a time.
func at(name string) string {
	return `, "readConcern": {"level": "snapshot", "atClusterTime": "@` + name + `"}`
}

const byID = `, "hint": {"_id": 1}`

// scriptBounds finds documents between bounds of their _id.
func scriptBounds(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 5}, {"_id": "b"}, {"_id": 1}, {"_id": {"$numberDouble": "2.5"}}, {"_id": {"$maxKey": 1}}, {"_id": null}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": {"a": 1}}, {"_id": {"$minKey": 1}}, {"_id": true}, {"_id": {"$date": {"$numberLong": "0"}}}, {"_id": {"$numberLong": "4"}, "x": 1}, {"_id": "a", "x": 1}]}`)
	for _, bounds := range []string{
		`"min": {"_id": {"$minKey": 1}}`, `"max": {"_id": {"$maxKey": 1}}`, `"min": {"_id": 1}`, `"min": {"_id": {"$numberDouble": "1.0"}}`, `"min": {"_id": 3}`,
		`"max": {"_id": 3}`, `"max": {"_id": 1}`, `"min": {"_id": 2}, "max": {"_id": "b"}`, `"min": {"_id": null}, "max": {"_id": 5}`, `"min": {"_id": {"$maxKey": 1}}`,
		`"min": {"_id": {"$minKey": 1}}, "max": {"_id": {"$maxKey": 1}}`, `"min": {"_id": 4}, "max": {"_id": 4}`, `"min": {"_id": 5}, "max": {"_id": 4}`,
		`"min": {"_id": 1}, "limit": 2`, `"min": {"_id": 1}, "limit": 3, "batchSize": 3`, `"min": {"_id": 1}, "filter": {"x": 1}`,
		`"min": {"_id": 1}, "filter": {"x": 1}, "limit": 1, "projection": {"x": 1, "_id": 0}`, `"min": {"_id": 1}, "skip": 2, "limit": 2`,
		`"min": {"_id": 1}, "sort": {"_id": 1}, "limit": 2`, `"min": {"_id": 1}, "sort": {"x": 1}`, `"max": {"_id": "b"}, "sort": {"_id": -1}, "limit": 3`,
		`"min": {}`, `"min": {}, "max": {}`, `"min": 1`, `"max": "x"`, `"min": {"a": 1}`, `"min": {"_id": 1, "a": 1}`, `"min": {"_id": 1}, "max": {"a": 1}`, `"min": null`,
		`"min": {"_id": {"$gt": 1}}`, `"min": {"_id": 1}, "max": {"_id": 2, "a": 1}`,
	} {
		s.run(`{"find": "c", ` + bounds + byID + `}`)
	}
	for _, hint := range []string{`{"_id": 1}`, `"_id_"`, `{"a": 1}`, `"nosuch"`, `{"_id": -1}`, `{"$natural": 1}`, `{"$natural": -1}`, `1`, `""`, `{}`} {
		s.run(`{"find": "c", "hint": ` + hint + `}`)
		s.run(`{"find": "c", "min": {"_id": 5}, "hint": ` + hint + `}`)
	}
	s.run(`{"find": "c", "min": {"_id": 5}}`)
	s.run(`{"find": "nosuch", "min": {"_id": 5}` + byID + `}`)
	s.run(`{"find": "nosuch", "min": {"_id": 5}, "max": {"_id": 4}` + byID + `}`)
	s.run(`{"find": "nosuch", "hint": {"a": 1}}`)
}

// scriptSnapshots reads a collection as it was.
func scriptSnapshots(s *script) {
	majority := `, "writeConcern": {"w": "majority"}}`
	s.run(`{"create": "clock"` + majority)
	s.run(`{"insert": "c", "documents": [{"_id": 3, "v": 1}, {"_id": 1, "v": 1}, {"_id": "x", "v": 1}, {"_id": 2, "v": 1}]` + majority)
	s.now("one")
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"v": 2}}}, {"q": {"_id": "x"}, "u": {"v": 2}}]` + majority)
	s.now("two")
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 3}, "limit": 1}, {"q": {"_id": 1}, "limit": 1}]` + majority)
	s.now("three")
	s.run(`{"insert": "c", "documents": [{"_id": 3, "v": 3}, {"_id": 0, "v": 3}]` + majority)
	s.now("four")
	s.run(`{"update": "c", "updates": [{"q": {"_id": 3}, "u": {"$set": {"v": 4}}}]` + majority)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"v": 1}, "name": "v_1"}]` + majority)
	s.run(`{"collMod": "c"` + majority)
	s.now("five")
	for _, time := range []string{"one", "two", "three", "four", "five"} {
		s.run(`{"find": "c"` + at(time) + `}`)
		s.run(`{"find": "c"` + byID + at(time) + `}`)
		s.run(`{"find": "c", "min": {"_id": 1}, "max": {"_id": "z"}, "limit": 2, "batchSize": 2, "maxTimeMS": 10000` + byID + at(time) + `}`)
		s.run(`{"find": "c", "filter": {"_id": 3}` + at(time) + `}`)
		s.run(`{"find": "c", "filter": {"v": {"$gt": 1}}, "sort": {"v": -1, "_id": 1}, "projection": {"v": 1}, "skip": 1` + at(time) + `}`)
		s.run(`{"aggregate": "c", "pipeline": [{"$match": {"v": 1}}, {"$count": "n"}], "cursor": {}` + at(time) + `}`)
		s.run(`{"distinct": "c", "key": "_id"` + at(time) + `}`)
	}
	s.run(`{"find": "nosuch"` + at("one") + `}`)
	s.run(`{"find": "nosuch", "min": {"_id": 5}` + byID + at("one") + `}`)
	s.note("a transaction")
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": "in"}]}`)
	in(1, false, `{"update": "c", "updates": [{"q": {"_id": 2}, "u": {"$set": {"v": 9}}}]}`)
	s.now("open")
	in(1, false, `admin {"commitTransaction": 1, "writeConcern": {"w": "majority"}}`)
	s.now("done")
	s.run(`{"find": "c"` + byID + at("open") + `}`)
	s.run(`{"find": "c"` + byID + at("done") + `}`)
}

// scriptSnapshotConcerns asks for times and levels that can't be had.
func scriptSnapshotConcerns(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}], "writeConcern": {"w": "majority"}}`)
	s.now("one")
	for _, concern := range []string{
		`{"level": "snapshot", "atClusterTime": "@one"}`, `{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 4000000000, "i": 1}}}`,
		`{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 0, "i": 0}}}`, `{"level": "snapshot", "atClusterTime": 1}`, `{"level": "snapshot", "atClusterTime": null}`,
		`{"atClusterTime": "@one"}`, `{"level": "majority", "atClusterTime": "@one"}`, `{"level": "snapshot", "atClusterTime": "@one", "afterClusterTime": "@one"}`,
		`{"afterClusterTime": "@one"}`, `{"level": "majority", "afterClusterTime": "@one"}`, `{"level": "snapshot", "afterClusterTime": "@one"}`,
		`{"level": "available", "afterClusterTime": "@one"}`, `{"level": "linearizable", "afterClusterTime": "@one"}`, `{"level": "local", "afterClusterTime": {"$timestamp": {"t": 0, "i": 0}}}`,
		`{"level": "local", "afterClusterTime": {"$timestamp": {"t": 4000000000, "i": 1}}}`, `{"level": "local", "afterClusterTime": 1}`, `{"level": 1, "atClusterTime": "@one"}`,
		`{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 1, "i": 1}}}`, `{"level": "nosuch", "atClusterTime": "@one"}`, `{"level": "nosuch", "afterClusterTime": "@one"}`,
	} {
		s.run(`{"find": "c", "readConcern": ` + concern + `}`)
	}
	for _, command := range []string{`"find": "nosuch"`, `"aggregate": "c", "pipeline": [], "cursor": {}`, `"aggregate": "nosuch", "pipeline": [{"$count": "n"}], "cursor": {}`,
		`"distinct": "nosuch", "key": "a"`, `"count": "c"`, `"ping": 1`, `"listCollections": 1, "nameOnly": true, "filter": {"name": "c"}`,
		`"delete": "c", "deletes": [{"q": {"_id": 9}, "limit": 1}]`, `"update": "c", "updates": [{"q": {"_id": 9}, "u": {"$set": {"v": 1}}}]`,
		`"listIndexes": "c"`, `"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}`} {
		for _, concern := range []string{
			`{"level": "snapshot", "atClusterTime": "@one"}`, `{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 4000000000, "i": 1}}}`,
			`{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 1, "i": 1}}}`, `{"atClusterTime": "@one"}`, `{"afterClusterTime": "@one"}`,
			`{"level": "local", "afterClusterTime": "@one"}`, `{"level": "local", "afterClusterTime": {"$timestamp": {"t": 4000000000, "i": 1}}}`,
		} {
			s.run(`{` + command + `, "readConcern": ` + concern + `}`)
		}
	}
	s.run(`admin {"listDatabases": 1, "nameOnly": true, "filter": {"name": "DB"}, "readConcern": {"level": "local", "afterClusterTime": "@one"}}`)
	s.run(`admin {"listDatabases": 1, "nameOnly": true, "filter": {"name": "DB"}, "readConcern": {"level": "snapshot"}}`)
}

// scriptSnapshotCursors reads on from a snapshot.
func scriptSnapshotCursors(s *script) {
	one, two := newUUID(), newUUID()
	s.keep("one", bsondoc.Value(bsondoc.New().Binary("id", 4, one[:]).Done()))
	s.keep("two", bsondoc.Value(bsondoc.New().Binary("id", 4, two[:]).Done()))
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}, {"_id": 4}, {"_id": 5}], "writeConcern": {"w": "majority"}}`)
	s.now("then")
	open := func(name, more string) {
		s.open(name, `{"find": "c", "batchSize": 2`+byID+at("then")+more+`}`)
	}
	next := func(name, more string) {
		s.values["id"] = bsondoc.Int64(s.cursors[name])
		s.run(`{"getMore": "@id", "collection": "c", "batchSize": 2` + more + `}`)
	}
	open("in", `, "lsid": "@one"`)
	open("killed", `, "lsid": "@one"`)
	open("plain", ``)
	s.run(`{"update": "c", "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "multi": true}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": {"$gte": 4}}, "limit": 0}]}`)
	next("in", `, "lsid": "@one"`)
	next("in", `, "lsid": "@two"`)
	next("in", ``)
	next("in", `, "lsid": "@one"`)
	next("in", `, "lsid": "@one"`)
	next("plain", ``)
	s.values["id"] = bsondoc.Int64(s.cursors["killed"])
	s.run(`{"killCursors": "c", "cursors": ["@id"], "lsid": "@one"}`)
	next("killed", `, "lsid": "@one"`)
	s.open("plain", `{"find": "c", "batchSize": 1}`)
	next("plain", `, "maxTimeMS": 50`)
	s.note("limits")
	for _, limits := range []string{`"limit": 3, "batchSize": 3`, `"limit": 3, "batchSize": 2`, `"limit": 6, "batchSize": 6`, `"limit": 5, "batchSize": 5`, `"batchSize": 6`} {
		s.run(`{"find": "c", ` + limits + byID + at("then") + `}`)
	}
}

// scriptSnapshotSchema reads collections that are dropped, created and renamed.
func scriptSnapshotSchema(s *script) {
	majority := `, "writeConcern": {"w": "majority"}}`
	read := func(coll string, times ...string) {
		for _, time := range times {
			s.run(`{"find": "` + coll + `"` + byID + at(time) + `}`)
		}
	}
	fill := func(coll string) {
		s.run(`{"insert": "` + coll + `", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}]` + majority)
	}
	s.run(`{"create": "clock"` + majority)
	s.now("before")
	fill("c")
	fill("d")
	fill("e")
	fill("g")
	s.now("one")
	for _, coll := range []string{"c", "d", "e", "g"} {
		s.open(coll, `{"find": "`+coll+`", "batchSize": 1`+byID+at("one")+`}`)
		s.open("local "+coll, `{"find": "`+coll+`", "batchSize": 1`+byID+`}`)
	}
	read("c", "before", "one")
	s.run(`{"drop": "c"` + majority)
	s.now("two")
	read("c", "one", "two")
	s.run(`{"find": "c", "readConcern": {"level": "snapshot"}}`)
	fill("c")
	s.now("three")
	read("c", "one", "two", "three")
	s.run(`admin {"renameCollection": "DB.d", "to": "DB.f"` + majority)
	s.now("four")
	read("d", "one", "four")
	read("f", "one", "four")
	s.run(`admin {"renameCollection": "DB.f", "to": "DB.e", "dropTarget": true` + majority)
	s.now("five")
	read("e", "one", "four", "five")
	read("f", "four", "five")
	s.run(`{"drop": "g"}`)
	for _, coll := range []string{"c", "d", "e", "g"} {
		for _, name := range []string{coll, "local " + coll} {
			s.values["id"] = bsondoc.Int64(s.cursors[name])
			s.run(`{"getMore": "@id", "collection": "` + coll + `"}`)
			s.run(`{"getMore": "@id", "collection": "` + coll + `"}`)
		}
	}
}

// scriptEstimates asks for the size of collections, and for a sample.
func scriptEstimates(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1}, {"_id": 2, "a": "xyz"}]}`)
	s.run(`{"create": "empty"}`)
	s.run(`{"create": "v", "viewOn": "c"}`)
	for _, coll := range []string{"c", "empty", "nosuch", "v"} {
		for _, stage := range []string{`{}`, `{"count": {}}`, `{"storageStats": {}}`, `{"storageStats": {"scale": 2}, "count": {}}`} {
			s.run(`{"aggregate": "` + coll + `", "pipeline": [{"$collStats": ` + stage + `}, {"$project": {"ns": 1, "count": 1, "storageStats.size": 1, "storageStats.avgObjSize": 1, "storageStats.capped": 1}}], "cursor": {}}`)
		}
	}
	for _, stage := range []string{`{"$sample": {"size": 1}}, {"$count": "n"}`, `{"$sample": {"size": 3}}, {"$sort": {"_id": 1}}`, `{"$sample": {"size": 1.5}}, {"$count": "n"}`,
		`{"$sample": {}}`, `{"$sample": {"size": 0}}`, `{"$sample": {"size": -1}}`, `{"$sample": {"size": "x"}}`, `{"$sample": 1}`, `{"$sample": {"size": 1, "x": 1}}`,
		`{"$match": {"a": "xyz"}}, {"$sample": {"size": 5}}`, `{"$collStats": 1}`, `{"$collStats": {"x": 1}}`, `{"$collStats": {"count": 1}}`, `{"$collStats": {"count": {"x": 1}}}`,
		`{"$collStats": {"storageStats": 1}}`, `{"$collStats": {"storageStats": {"scale": 0}}}`, `{"$collStats": {"storageStats": {"scale": "x"}}}`,
		`{"$match": {}}, {"$collStats": {}}`, `{"$collStats": {"count": {}}}, {"$project": {"count": 1, "_id": 0}}`} {
		s.run(`{"aggregate": "c", "pipeline": [` + stage + `], "cursor": {}}`)
	}
	s.run(`{"aggregate": "nosuch", "pipeline": [{"$sample": {"size": 1}}], "cursor": {}}`)
}

// scriptSpecial creates and lists capped and time-series collections. What is
// in them is not compared: mongotest refuses to write there.
func scriptSpecial(s *script) {
	s.watch("db", `1`, `[{"$changeStream": {`+expanded+`}}]`)
	majority := `, "writeConcern": {"w": "majority"}}`
	for _, command := range []string{
		`{"create": "capped", "capped": true, "size": 100`, `{"create": "few", "capped": true, "size": 5000, "max": 3`, `{"create": "x", "capped": true`, `{"create": "x", "size": 5000`,
		`{"create": "x", "capped": false, "max": 5000`, `{"create": "x", "capped": true, "size": -1`, `{"create": "x", "capped": true, "size": "x"`, `{"create": "plain", "capped": false`,
		`{"create": "t", "timeseries": {"timeField": "t"}`, `{"create": "u", "timeseries": {"timeField": "at", "metaField": "m", "granularity": "hours"}`, `{"create": "x", "timeseries": {}`,
		`{"create": "x", "timeseries": {"timeField": "t", "x": 1}`, `{"create": "x", "timeseries": 1`, `{"create": "t", "timeseries": {"timeField": "t"}`, `{"create": "t"`,
	} {
		s.run(command + majority)
	}
	s.now("now")
	for _, name := range []string{"capped", "few", "plain", "t", "u", "system.views"} {
		s.run(`{"listCollections": 1, "filter": {"name": "` + name + `"}}`)
		s.run(`{"listCollections": 1, "nameOnly": true, "filter": {"name": "` + name + `"}}`)
	}
	s.run(`{"listCollections": 1, "nameOnly": true, "filter": {"name": "system.buckets.t"}}`)
	s.run(`{"listCollections": 1, "nameOnly": true, "filter": {"type": "timeseries", "name": "t"}}`)
	s.run(`{"find": "system.views", "sort": {"_id": 1}}`)
	s.run(`{"create": "v", "viewOn": "plain"` + majority)
	for _, coll := range []string{"capped", "t", "v"} {
		s.run(`{"find": "` + coll + `", "min": {"_id": 1}` + byID + at("now") + `}`)
		s.run(`{"find": "` + coll + `", "min": {"_id": 1}` + byID + `}`)
		s.run(`{"find": "` + coll + `", "max": {"_id": 1}` + byID + `}`)
		s.run(`{"aggregate": "` + coll + `", "pipeline": [{"$changeStream": {}}], "cursor": {}}`)
	}
	s.run(`{"find": "capped"` + at("now") + `}`)
	s.run(`{"find": "capped", "readConcern": {"level": "snapshot"}}`)
	s.run(`{"drop": "capped"}`)
	s.run(`{"drop": "t"}`)
	s.run(`{"listCollections": 1, "nameOnly": true, "filter": {"name": "system.buckets.t"}}`)
	s.more("db", "$cmd.aggregate")
}
