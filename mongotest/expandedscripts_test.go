package mongotest

const expanded = `"showExpandedEvents": true`

func scriptExpanded(s *script) {
	s.watch("db", `1`, `[{"$changeStream": {`+expanded+`}}]`)
	s.watch("c", `"c"`, `[{"$changeStream": {`+expanded+`}}]`)
	s.watch("plain", `1`, `[{"$changeStream": {}}]`)
	for _, command := range []string{
		`{"insert": "c", "documents": [{"_id": 1, "a": 1, "l": [1, {"b": 1}, [2]], "x": {"0": 1}}]}`,
		`{"create": "e"}`,
		`{"create": "on", "changeStreamPreAndPostImages": {"enabled": true}}`,
		`{"create": "idindex", "idIndex": {"key": {"_id": 1}, "name": "mine"}}`,
		`{"createIndexes": "e", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}`,
		`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "unique": true}, {"key": {"b.x": -1, "c": 1}, "name": "two", "sparse": true}]}`,
		`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "unique": true}]}`,
		`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "unique": true}, {"key": {"d": 1}, "name": "d_1", "v": 2, "background": true}]}`,
		`{"createIndexes": "new", "indexes": [{"key": {"a": 1}, "name": "a_1"}, {"key": {"b": 1}, "name": "b_1"}]}`,
		`{"createIndexes": "c", "indexes": [{"key": {"e": 1}, "name": "e_1"}, {"key": {"z": 1}, "name": "d_1"}]}`,
		`{"listIndexes": "c"}`,
		`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": true}}`,
		`{"collMod": "c"}`,
		`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": true}}`,
		`{"collMod": "c", "changeStreamPreAndPostImages": {"enabled": false}, "comment": "x"}`,
		`{"dropIndexes": "c", "index": "two"}`,
		`{"dropIndexes": "c", "index": "*"}`,
		`{"dropIndexes": "c", "index": "*"}`,
		`{"dropIndexes": "c", "index": "nosuch"}`,
		`{"dropIndexes": "new", "index": "*"}`,
		`{"dropIndexes": "nosuch", "index": "*"}`,
		`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2, "l.0": 2, "l.1.b": 3, "x.0": 4, "l.2.0": 5, "n.0": 1}}}]}`,
		`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"y": 1}}]}`,
		`{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`,
		`admin {"renameCollection": "DB.e", "to": "DB.f"}`,
		`admin {"renameCollection": "DB.c", "to": "DB.f", "dropTarget": true}`,
		`{"drop": "on"}`,
		`{"drop": "new"}`,
		`{"drop": "idindex"}`,
		`{"insert": "c", "documents": [{"_id": 1}]}`,
		`{"drop": "c"}`,
	} {
		s.run(command)
	}
	s.more("db", "$cmd.aggregate")
	s.more("c", "c")
	s.more("plain", "$cmd.aggregate")
	s.run(`{"dropDatabase": 1}`)
	s.more("db", "$cmd.aggregate")
}

// scriptExpandedTokens resumes after expanded events, with showExpandedEvents
// and without.
func scriptExpandedTokens(s *script) {
	s.watch("w", `1`, `[{"$changeStream": {`+expanded+`}}]`)
	s.run(`{"create": "c"}`)
	s.run(`{"createIndexes": "c", "indexes": [{"key": {"a": 1, "b": -1}, "name": "ab"}]}`)
	s.run(`{"collMod": "c"}`)
	s.run(`{"dropIndexes": "c", "index": "ab"}`)
	s.run(`{"insert": "c", "documents": [{"_id": 1}]}`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.d"}`)
	s.run(`{"drop": "d"}`)
	s.more("w", "$cmd.aggregate")
	for _, n := range []string{"0", "1", "2", "3", "4", "5", "6"} {
		s.watchFrom("x", "w."+n, `1`, ", "+expanded, "")
		s.watchFrom("x", "w."+n, `"c"`, ", "+expanded, "")
		s.watchFrom("x", "w."+n, `1`, "", "")
	}
	s.watchFrom("x", "w.0", `1`, ", "+expanded, `, {"$match": {"operationType": "insert"}}`)
	s.watchFrom("x", "w.0", `1`, ", "+expanded, `, {"$match": {"operationType": {"$in": ["create", "dropIndexes"]}}}`)
	s.watchFrom("x", "w.mark", `1`, ", "+expanded, "")
	s.watchFrom("x", "w.0", `1`, ", "+expanded+`, `+imageModes("whenAvailable", "whenAvailable"), "")
	s.note("of version 2")
	s.watch("v", `1`, `[{"$changeStream": {"resumeAfter": "@w.0", `+expanded+`}}, {"$changeStreamSplitLargeEvent": {}}]`)
	s.watchFrom("x", "v.0", `1`, ", "+expanded, "")
	s.watchFrom("x", "v.1", `1`, "", "")
	for _, o := range []string{`"showSystemEvents": false`, `"showExpandedEvents": null`, `"showExpandedEvents": "x"`} {
		s.watch("x", `1`, `[{"$changeStream": {`+o+`}}]`)
	}
}

func scriptExpandedInTransactions(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `1`, `[{"$changeStream": {`+expanded+`}}]`)
	in := s.session()
	in(1, true, `{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`)
	in(1, false, `{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 2}}}]}`)
	in(1, false, `admin {"commitTransaction": 1}`)
	s.more("w", "$cmd.aggregate")
}
