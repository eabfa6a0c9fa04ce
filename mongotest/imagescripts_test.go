package mongotest

import "fmt"

func scriptImageOptions(s *script) {
	for i, v := range []string{`{"enabled": true}`, `{"enabled": false}`, `{}`, `{"enabled": 1}`, `{"enabled": "x"}`, `{"enabled": true, "x": 1}`, `null`, `1`, `{"enabled": null}`} {
		s.run(fmt.Sprintf(`{"create": "c%d", "changeStreamPreAndPostImages": %s}`, i, v))
	}
	s.run(`admin {"create": "images", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.run(`{"create": "c0", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.run(`{"listCollections": 1, "filter": {"name": "c0"}}`)
	s.run(`{"listCollections": 1, "filter": {"name": "c1"}}`)
	s.run(`{"create": "m"}`)
	for _, o := range []string{
		``, `, "changeStreamPreAndPostImages": {"enabled": true}`, ``, `, "changeStreamPreAndPostImages": {"enabled": true}`, `, "changeStreamPreAndPostImages": {"enabled": false}`,
		`, "changeStreamPreAndPostImages": {"enabled": false}`, `, "changeStreamPreAndPostImages": {}`, `, "changeStreamPreAndPostImages": {"enabled": 1}`, `, "changeStreamPreAndPostImages": {"enabled": true, "x": 1}`,
		`, "changeStreamPreAndPostImages": null`, `, "changeStreamPreAndPostImages": 1`, `, "nosuch": 1`, `, "writeConcern": {"w": "majority"}, "comment": "x"`,
	} {
		s.run(`{"collMod": "m"` + o + `}`)
		s.run(`{"listCollections": 1, "filter": {"name": "m"}}`)
	}
	s.run(`{"collMod": "nosuch"}`)
	s.run(`{"collMod": "nosuch", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.run(`{"collMod": ""}`)
	s.run(`{"collMod": 1}`)
	s.run(`admin {"collMod": "nosuch", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.session()(1, true, `{"collMod": "m", "changeStreamPreAndPostImages": {"enabled": true}}`)
}

// writeAll does each kind of write to one document of a collection.
func (s *script) writeAll(coll string) {
	s.run(`{"insert": "` + coll + `", "documents": [{"_id": 1, "a": 1}]}`)
	s.run(`{"update": "` + coll + `", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2}}}, {"q": {"_id": 1}, "u": {"b": [1, 2]}}, {"q": {"_id": 1}, "u": {"$push": {"b": 3}}}]}`)
	s.run(`{"update": "` + coll + `", "updates": [{"q": {"_id": 2}, "u": {"$set": {"a": 2}}, "upsert": true}]}`)
	s.run(`{"findAndModify": "` + coll + `", "query": {"_id": 2}, "update": {"$inc": {"a": 1}}}`)
	s.run(`{"findAndModify": "` + coll + `", "query": {"_id": 2}, "remove": true}`)
	s.run(`{"delete": "` + coll + `", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
}

func imageModes(post, pre string) string {
	return `"fullDocument": "` + post + `", "fullDocumentBeforeChange": "` + pre + `"`
}

// watchFrom opens a stream after the mark of another.
func (s *script) watchFrom(name, mark, coll, options, stages string) {
	s.t.Helper()
	s.watch(name, coll, `[{"$changeStream": {"resumeAfter": "@`+mark+`"`+options+`}}`+stages+`]`)
}

func scriptImages(s *script) {
	s.run(`{"create": "on", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.run(`{"create": "off"}`)
	for _, coll := range []string{"on", "off"} {
		s.watch(coll, `"`+coll+`"`, `[{"$changeStream": {}}]`)
		s.writeAll(coll)
		for _, post := range []string{"default", "updateLookup", "whenAvailable", "required"} {
			for _, pre := range []string{"off", "whenAvailable", "required"} {
				s.watchFrom("x", coll+".mark", `"`+coll+`"`, ", "+imageModes(post, pre), "")
			}
		}
	}
	s.watchFrom("db", "on.mark", `1`, ", "+imageModes("required", "required"), "")
	s.watchFrom("db", "on.mark", `1`, ", "+imageModes("whenAvailable", "whenAvailable"), "")
}

// scriptImagesLater: images are switched on and off, collections are renamed
// and dropped, and good events come before one whose image is missing.
func scriptImagesLater(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {`+imageModes("required", "required")+`}}]`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	set := func(n string) {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": ` + n + `}}}]}`)
	}
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
	set("2")
	s.run(`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": true}}`)
	set("3")
	s.more("w", "c")
	s.more("w", "c")
	s.watchFrom("x", "db.mark", `"c"`, ", "+imageModes("whenAvailable", "whenAvailable"), "")
	s.watchFrom("x", "x.1", `"c"`, ", "+imageModes("required", "required"), "")
	s.open("one", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@db.mark", "fullDocumentBeforeChange": "required"}}], "cursor": {"batchSize": 1}}`)
	s.more("one", "c", `, "batchSize": 1`)
	s.run(`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": false}}`)
	set("4")
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	s.watchFrom("x", "x.0", `"c"`, ", "+imageModes("default", "whenAvailable"), "")
	s.watchFrom("y", "x.1", `"c"`, `, "fullDocument": "required"`, "")
	s.note("renamed")
	s.run(`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": true}}`)
	set("5")
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.d"}`)
	s.run(`{"update": "d", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 6}}}]}`)
	s.run(`{"listCollections": 1}`)
	s.watchFrom("y", "x.2", `1`, ", "+imageModes("required", "required"), "")
	s.note("dropped")
	s.run(`{"drop": "d"}`)
	s.run(`{"insert": "d", "documents": [{"_id": 1}]}`)
	s.run(`{"listCollections": 1}`)
	s.run(`{"update": "d", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 7}}}]}`)
	s.watchFrom("y", "x.2", `1`, ", "+imageModes("required", "required"), "")
	s.watchFrom("y", "x.2", `1`, ", "+imageModes("whenAvailable", "whenAvailable"), "")
	s.run(`{"dropDatabase": 1}`)
	s.watchFrom("y", "x.2", `1`, ", "+imageModes("whenAvailable", "whenAvailable"), "")
}

// scriptImagesInStages: whether a missing image is noticed before or after the
// stages that the client adds.
func scriptImagesInStages(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.writeAll("c")
	s.more("w", "c")
	for _, stages := range []string{
		`{"$match": {"operationType": "insert"}}`, `{"$match": {"fullDocument.a": 1}}`, `{"$match": {"fullDocumentBeforeChange": {"$exists": false}}}`,
		`{"$match": {"operationType": "insert", "fullDocument.a": 1}}`, `{"$match": {"documentKey._id": 1, "operationType": {"$in": ["insert", "drop"]}}}`,
		`{"$match": {"$or": [{"operationType": "insert"}, {"fullDocument.a": 77}]}}`,
		`{"$project": {"fullDocument": 0, "fullDocumentBeforeChange": 0}}`, `{"$project": {"operationType": 1}}`, `{"$project": {"operationType": 1}}, {"$match": {"operationType": "insert"}}`,
		`{"$addFields": {"x": 1}}, {"$match": {"operationType": "insert"}}`, `{"$match": {"operationType": "nosuch"}}`, `{"$match": {"ns.coll": "other"}}`,
	} {
		s.watchFrom("x", "w.0", `"c"`, `, "fullDocument": "required"`, ", "+stages)
		s.watchFrom("x", "w.0", `"c"`, `, "fullDocumentBeforeChange": "required"`, ", "+stages)
	}
	s.note("both images")
	for _, stages := range []string{`{"$match": {"fullDocument.a": 1}}`, `{"$match": {"fullDocumentBeforeChange": {"$type": "object"}}}`, `{"$match": {"$and": [{"operationType": "insert"}, {"fullDocument.a": 77}]}}`} {
		for _, modes := range []string{imageModes("required", "whenAvailable"), imageModes("whenAvailable", "required")} {
			s.watchFrom("x", "w.0", `"c"`, ", "+modes, ", "+stages)
		}
	}
	s.note("resuming after events whose images are missing")
	for _, n := range []string{"1", "2", "5", "6"} {
		s.watchFrom("x", "w."+n, `"c"`, ", "+imageModes("required", "required"), "")
		s.watchFrom("x", "w."+n, `"c"`, ", "+imageModes("required", "whenAvailable"), "")
	}
}

func scriptImagesInTransactions(s *script) {
	s.run(`{"create": "on", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.run(`{"create": "off"}`)
	s.run(`{"insert": "on", "documents": [{"_id": 1, "a": 1}]}`)
	s.run(`{"insert": "off", "documents": [{"_id": 1, "a": 1}]}`)
	s.watch("db", `1`, `[{"$changeStream": {}}]`)
	in := s.session()
	in(1, true, `{"insert": "on", "documents": [{"_id": 2, "a": 1}]}`)
	in(1, false, `{"update": "on", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2}}}, {"q": {"_id": 1}, "u": {"$set": {"a": 3}}}, {"q": {"_id": 2}, "u": {"b": 1}}]}`)
	in(1, false, `{"update": "off", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2}}}]}`)
	in(1, false, `{"delete": "on", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	in(1, false, `admin {"commitTransaction": 1}`)
	s.watchFrom("x", "db.mark", `"on"`, ", "+imageModes("required", "required"), "")
	s.watchFrom("y", "x.2", `"on"`, ", "+imageModes("required", "required"), "")
	s.watchFrom("y", "db.mark", `"off"`, ", "+imageModes("required", "off"), "")
	s.watchFrom("y", "db.mark", `"off"`, ", "+imageModes("default", "required"), "")
	s.watchFrom("y", "db.mark", `1`, ", "+imageModes("whenAvailable", "whenAvailable"), "")
	s.watchFrom("y", "db.mark", `1`, ", "+imageModes("updateLookup", "whenAvailable"), "")
}
