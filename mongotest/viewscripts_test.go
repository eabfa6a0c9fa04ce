package mongotest

// scriptViews creates, drops and misuses views. It does not read through one:
// mongotest refuses that, see TestRefusedByName.
func scriptViews(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("db", `1`, `[{"$changeStream": {`+expanded+`}}]`)
	s.watch("v", `"v"`, `[{"$changeStream": {`+expanded+`}}]`)
	s.watch("plain", `1`, `[{"$changeStream": {}}]`)
	for _, command := range []string{
		`{"create": "v", "viewOn": "c", "pipeline": [{"$match": {"a": 1}}, {"$project": {"a": 1}}]}`,
		`{"create": "bare", "viewOn": "nosuch"}`,
		`{"create": "empty", "viewOn": "v", "pipeline": []}`,
		`{"create": "v", "viewOn": "c", "pipeline": [{"$match": {"a": 1}}, {"$project": {"a": 1}}]}`,
		`{"create": "v", "viewOn": "c", "pipeline": []}`,
		`{"create": "v"}`,
		`{"create": "c", "viewOn": "c"}`,
		`{"create": "x", "viewOn": 1}`,
		`{"create": "x", "viewOn": ""}`,
		`{"create": "n", "viewOn": null}`,
		`{"create": "x", "viewOn": "a$b"}`,
		`{"create": "x", "pipeline": []}`,
		`{"create": "x", "viewOn": "c", "pipeline": {}}`,
		`{"create": "x", "viewOn": "c", "pipeline": [1]}`,
		`{"create": "x", "viewOn": "c", "pipeline": [{}]}`,
		`{"create": "x", "viewOn": "c", "pipeline": [{"$match": {}, "$limit": 1}]}`,
		`{"create": "x", "viewOn": "c", "pipeline": [{"$nosuch": 1}]}`,
		`{"create": "x", "viewOn": "c", "changeStreamPreAndPostImages": {"enabled": true}}`,
		`{"create": "x", "viewOn": "c", "changeStreamPreAndPostImages": {"enabled": false}}`,
		`{"drop": "x"}`,
		`{"create": "x", "viewOn": "c", "idIndex": {"key": {"_id": 1}, "name": "_id_"}}`,
		`{"create": "system.x", "viewOn": "c"}`,
		`{"create": "xx", "viewOn": "system.c"}`,
		`{"find": "system.views"}`,
		`{"listCollections": 1, "filter": {"name": "v"}}`,
		`{"listCollections": 1, "filter": {"name": "v"}, "nameOnly": true}`,
		`{"listCollections": 1, "filter": {"name": "bare", "type": "view"}}`,
		`{"listCollections": 1, "filter": {"type": "collection", "name": {"$in": ["v", "system.views"]}}}`,
		`{"insert": "v", "documents": [{"_id": 1}]}`,
		`{"insert": "v", "documents": [{"_id": 1}, {"_id": 2}], "ordered": false}`,
		`{"insert": "v", "documents": []}`,
		`{"insert": "v"}`,
		`{"update": "v", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}`,
		`{"update": "v", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}], "ordered": false}`,
		`{"delete": "v", "deletes": [{"q": {}, "limit": 1}]}`,
		`{"findAndModify": "v", "update": {"$set": {"a": 1}}}`,
		`{"findAndModify": "v", "remove": true}`,
		`{"createIndexes": "v", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}`,
		`{"dropIndexes": "v", "index": "*"}`,
		`{"listIndexes": "v"}`,
		`{"collMod": "v"}`,
		`{"collMod": "v", "changeStreamPreAndPostImages": {"enabled": false}}`,
		`{"collMod": "v", "changeStreamPreAndPostImages": {"enabled": true}}`,
		`admin {"renameCollection": "DB.v", "to": "DB.w"}`,
		`admin {"renameCollection": "DB.c", "to": "DB.v"}`,
		`admin {"renameCollection": "DB.c", "to": "DB.v", "dropTarget": true}`,
		`admin {"renameCollection": "DB.system.views", "to": "DB.w"}`,
		`admin {"renameCollection": "DB.c", "to": "DB.system.views"}`,
		`admin {"renameCollection": "DB.c", "to": "DB.system.views", "dropTarget": true}`,
		`{"aggregate": "v", "pipeline": [{"$changeStream": {}}], "cursor": {}}`,
		`{"aggregate": "v", "pipeline": [{"$changeStream": {"fullDocument": "nope"}}], "cursor": {}}`,
		`{"aggregate": "v", "pipeline": [{"$changeStream": {}}, {"$nosuch": 1}], "cursor": {}}`,
	} {
		s.run(command)
	}
	in := s.session()
	in(1, true, `{"insert": "v", "documents": [{"_id": 1}]}`)
	s.run(`{"insert": "v", "documents": [{"_id": 1}]}`)
	s.run(`{"drop": "v"}`)
	s.run(`{"drop": "v"}`)
	s.run(`{"create": "v"}`)
	s.run(`{"drop": "v"}`)
	s.more("db", "$cmd.aggregate")
	s.more("v", "v")
	s.more("plain", "$cmd.aggregate")
	s.watchFrom("x", "db.0", `1`, ", "+expanded, "")
	s.watchFrom("x", "db.1", `1`, "", "")
	s.watch("two", `1`, `[{"$changeStream": {"resumeAfter": "@db.0", `+expanded+`}}, {"$changeStreamSplitLargeEvent": {}}]`)
	s.run(`{"drop": "c"}`)
	s.run(`{"drop": "n"}`)
	s.run(`admin {"listDatabases": 1, "nameOnly": true, "filter": {"name": "DB"}}`)
	s.run(`{"dropDatabase": 1}`)
	s.more("db", "$cmd.aggregate")
	s.run(`{"listCollections": 1}`)
	s.run(`{"create": "v", "viewOn": "c"}`)
	s.run(`{"drop": "v"}`)
	s.run(`{"dropDatabase": 1}`)
}
