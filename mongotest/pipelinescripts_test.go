package mongotest

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// scriptPipelineUpdates makes the server find out what an update changed.
func scriptPipelineUpdates(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "b": true, "text": "long enough to make what differs the smaller thing to log", "l": [1, 2, 3, 4, 5, 6, 7, 8], "m": [{"k": "something", "x": [1, 2, 3, 4, 5, 6, 7]}, 2, "the last"], "d": {"e": {"f": 1, "g": "a text"}, "l": [1, [2, 3, 4, 5, 6, 7, 8, 9], 3]}}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {"fullDocument": "updateLookup"}}, {"$project": {"ns": 0, "wallTime": 0}}]`)
	for _, u := range []string{
		`[{"$set": {"a": 2}}]`,
		`[{"$set": {"a": 2}}]`,
		`[]`,
		`[{"$set": {}}]`,
		`[{"$replaceWith": "$$ROOT"}]`,
		`[{"$addFields": {"new": "$a", "d.e.f": "$b"}}, {"$unset": ["b", "d.e.g"]}]`,
		`[{"$set": {"l": [1, 2, 3, 4]}}]`,
		`[{"$set": {"l": [9, 2]}}]`,
		`[{"$set": {"l": [9, 2, 3, 4, 5, 6, 7, 8, 9]}}]`,
		`[{"$set": {"l": [9, 2, 3, 4, 5, 6, 7, 9]}}]`,
		`[{"$set": {"l": []}}]`,
		`[{"$set": {"m": [{"k": "something", "x": [1, 2, 3, 4, 5, 6]}, 2]}}]`,
		`[{"$set": {"m": [{"k": "something", "x": [1, 2, 3, 4, 5, 6]}, 2, {"y": 1}]}}]`,
		`[{"$set": {"m.x": [1, 2]}}]`,
		`[{"$set": {"d.l": [1, [2, 3, 4, 5, 6], 3]}}]`,
		`[{"$set": {"d.l": [1, [2, 3, 4, 5, 6], 3], "d.e.f": "$$REMOVE"}}]`,
		`[{"$set": {"z": {"y": {"x": 1}}, "d": "$text"}}]`,
		`[{"$project": {"text": 1, "m": 1}}]`,
		`[{"$set": {"e": {"0": 1}, "n": 1, "o": 1, "p": 1}}]`,
		`[{"$project": {"p": 0, "n": 0, "o": 0}}]`,
		`[{"$set": {"z": 1, "y": 1, "x": 1, "last": 1}}]`,
		`[{"$unset": ["z", "y", "x"]}]`,
		`[{"$replaceRoot": {"newRoot": {"_id": "$_id", "text": "$text", "m": "$m", "short": 1}}}]`,
		`[{"$replaceWith": {"m": "$m", "_id": "$_id", "text": "$text"}}]`,
		`[{"$replaceWith": {"text": "$text", "m": 1}}]`,
		`[{"$replaceWith": {"m": 1, "_id": "$_id"}}]`,
		`[{"$replaceWith": {"m": 2}}]`,
		`[{"$set": {"_id": {"$literal": {"$numberDouble": "1.0"}}}}]`,
		`[{"$unset": "_id"}]`,
		`[{"$replaceWith": {"$literal": {"a.b": 1, "$x": 1}}}]`,
		`[{"$set": {"text": "a text long enough for changes to be smaller than it"}}]`,
		`{"a": 1, "_id": 1}`,
		`{"_id": {"$numberDouble": "1.0"}, "a": 2}`,
		`{"_id": [1]}`,
	} {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": ` + u + `}]}`)
	}
	s.run(`{"find": "c"}`)
	s.more("w", "c")
	s.note("as many at once, and as none")
	for _, u := range []string{
		`{"q": {"_id": 77, "k": "x"}, "u": [{"$set": {"a": "$k"}}], "upsert": true}`, `{"q": {"k": "y"}, "u": [{"$set": {"_id": 78}}], "upsert": true}`,
		`{"q": {"_id": 81}, "u": [{"$replaceWith": {"a": 1}}], "upsert": true}`, `{"q": {"_id": 82}, "u": [], "upsert": true}`,
		`{"q": {"_id": 83}, "u": [{"$replaceWith": {"x": 1, "_id": "$_id"}}], "upsert": true}`, `{"q": {"k": "new"}, "u": [{"$set": {"a": 1}}], "upsert": true}`,
		`{"q": {"_id": {"$gt": 50}}, "u": [{"$set": {"m": "$a"}}, {"$unset": "a"}], "multi": true}`, `{"q": {"_id": 84}, "u": [{"$set": {"a": 1}}]}`,
	} {
		s.run(`{"update": "c", "updates": [` + u + `]}`)
	}
	s.run(`{"findAndModify": "c", "query": {"_id": 77}, "update": [{"$set": {"f": {"$literal": 1}}}], "new": true}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 77}, "update": [{"$set": {"f": {"$literal": 1}}}]}`)
	s.run(`{"findAndModify": "c", "query": {"_id": 177}, "update": [{"$set": {"f": "$_id"}}], "new": true, "upsert": true}`)
	s.run(`{"find": "c", "sort": {"_id": 1}}`)
	s.more("w", "c")
}

func scriptPipelineUpdateErrors(s *script) {
	s.run(`{"insert": "c", "documents": [{"_id": 1, "b": true}]}`)
	for _, u := range []string{
		`[{"$set": {"_id": 2}}]`, `[{"$set": {"_id": [1]}}]`, `[1]`, `[{}]`, `[{"$set": {"a": 1}, "$unset": "b"}]`, `[{"$nosuch": 1}]`, `[{"$match": {}}, {"$nosuch": 1}]`,
		`[{"$match": {}}]`, `[{"$group": {"_id": 1}}]`, `[{"$limit": 1}]`, `[{"$redact": "$$KEEP"}]`, `[{"$changeStream": {}}]`, `[{"$set": {"a": 1}}, {"$sort": {"a": 1}}]`,
		`[{"$set": 1}]`, `[{"$set": {"a": {"$nosuch": 1}}}]`, `[{"$unset": []}]`, `[{"$unset": 1}]`, `[{"$project": {}}]`, `[{"$set": {"a": {}}}]`, `[{"$set": {"a": {"b": {}}}}]`, `[{"$project": {"a": {}}}]`, `[{"$replaceRoot": {}}]`, `[{"$replaceRoot": {"newRoot": {"a": 1}, "x": 1}}]`, `[{"$replaceWith": "$b"}]`, `[{"$replaceWith": "$nosuch"}]`, `[{"$replaceWith": ["$_id", {"x": ["$b"]}]}]`,
	} {
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": ` + u + `}]}`)
		s.run(`{"findAndModify": "c", "query": {"_id": 1}, "update": ` + u + `}`)
	}
	for _, set := range []string{
		`{"a": 1, "a.b": 1}`, `{"a.b": 1, "a": 1}`, `{"a.b.c": 1, "a": 1}`, `{"a": {"b": 1}, "a.b": 1}`, `{"x": {"a": 1, "a.b": 1}}`, `{"x": {"a.b": 1}}`, `{"x": {"a": {"c": 1}, "b": 1}, "x.a": 1}`, `{"a": {"b": "$b"}, "a.c": 1}`,
	} {
		s.run(`{"aggregate": "c", "pipeline": [{"$set": ` + set + `}], "cursor": {}}`)
	}
	s.run(`{"insert": "c", "documents": [{"_id": 2, "s": "` + strings.Repeat("x", 100) + `"}]}`)
	doubled := `{"$set": {"a": "$$ROOT"}}` + strings.Repeat(`, {"$replaceWith": {"_id": "$_id", "a": "$$ROOT", "b": "$$ROOT"}}`, 17)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 2}, "u": [` + doubled + `]}]}`)
	s.run(`{"update": "c", "updates": [{"q": {"_id": 79}, "u": [{"$set": {"_id": 80}}], "upsert": true}]}`)
	s.run(`{"update": "c", "updates": [{"q": {}, "u": [{"$set": {"_id": 5}}], "multi": true}]}`)
	s.run(`{"find": "c"}`)
}

// scriptPipelineUpdateSizes uses documents and arrays around the sizes at which
// they are logged as a whole, because the differences would take as much room.
func scriptPipelineUpdateSizes(s *script) {
	s.run(`{"create": "c"}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$match": {"operationType": {"$in": ["update", "replace"]}}}, {"$project": {"operationType": 1, "updateDescription": 1}}]`)
	for n := range 32 {
		s.values["n"] = bsondoc.Int32(int32(n))
		text := `"` + strings.Repeat("x", n) + `"`
		s.run(`{"insert": "c", "documents": [{"_id": "@n", "t": ` + text + `, "a": 1}]}`)
		for _, stages := range []string{
			`{"$set": {"a": 2, "new": 1}}`, `{"$unset": ["a", "new"]}`,
			`{"$set": {"long": "` + strings.Repeat("y", 150) + `", "l": [` + text + `, 1, 2], "d": {"t": ` + text + `, "a": 1, "b": 2, "e": {"g": 1}}, "k": [` + text + `, 1, 2, 3, 4], "f": {"e": {"k": "x", "x": 1}, "b": 1, "t": ` + text + `}}}`,
			`{"$set": {"l": [` + text + `]}}`, `{"$set": {"l": [` + text + `, {"x": 1}]}}`, `{"$set": {"l": [` + text + `, {"x": {}}]}}`,
			`{"$set": {"d.a": 2, "d.c": 3}}`, `{"$unset": ["d.a", "d.b"]}`, `{"$set": {"d.e.f": 1}}`, `{"$set": {"k": [` + text + `, 5, 6, 7, 8]}}`, `{"$set": {"f.e.x": 2, "f.b": 2}}`,
		} {
			s.run(`{"update": "c", "updates": [{"q": {"_id": "@n"}, "u": [` + stages + `]}]}`)
		}
		s.more("w", "c")
	}
}
