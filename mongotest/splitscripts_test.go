package mongotest

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

const split = `{"$changeStreamSplitLargeEvent": {}}`

// large stores a string of the given number of kilobytes as "@name".
func (s *script) large(name string, kilobytes int) {
	s.keep(name, bsondoc.New().Str("", strings.Repeat(name, kilobytes<<10)).Done().Lookup(""))
}

// largeUpdate makes the event of an update that must be split: two large fields
// in three fragments, with images.
func (s *script) largeUpdate() {
	s.run(`{"create": "c", "changeStreamPreAndPostImages": {"enabled": true}}`)
	s.large("q", 9<<10)
	s.large("z", 9<<10)
	s.run(`{"insert": "c", "documents": [{"_id": 1, "v": "@q"}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	s.run(`{"insert": "c", "documents": [{"_id": 0}]}`)
	s.more("w", "c")
	s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"v": "@z"}}}]}`)
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
}

func scriptSplit(s *script) {
	s.largeUpdate()
	s.watch("none", `"c"`, `[{"$changeStream": {}}, `+split+`]`)
	images := ", " + imageModes("required", "required")
	for _, options := range []string{"", `, "fullDocument": "updateLookup"`, images + ", " + expanded} {
		s.note("without the stage")
		s.watchFrom("x", "w.0", `"c"`, options, "")
		s.note("with it")
		s.watchFrom("x", "w.0", `"c"`, options, ", "+split)
		for range 2 {
			s.more("x", "c")
		}
	}
	s.note("tokens of version 1, in a stream of version 2")
	s.watchFrom("x", "w.0", `"c"`, "", "")
	for _, token := range []string{"x.0", "x.1"} {
		s.watchFrom("y", token, `"c"`, "", ", "+split)
		s.open("z", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@`+token+`"}}, `+split+`], "cursor": {"batchSize": 0}}`)
		s.more("z", "c")
		s.watchFrom("y", token, `"other"`, "", ", "+split)
	}
	s.note("high-water marks of version 1")
	s.keep("hwm", bsondoc.Value(bsondoc.New().Str("_data", "8200000001000000012B0229296E04").Done()))
	s.open("x", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@hwm"}}, `+split+`], "cursor": {"batchSize": 0}}`)
	s.open("x", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@hwm"}}], "cursor": {"batchSize": 0}}`)
	s.note("batches of one, and what the mark is between fragments")
	s.open("x", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@w.0"`+images+`}}, `+split+`], "cursor": {"batchSize": 0}}`)
	for range 5 {
		s.more("x", "c", `, "batchSize": 1`)
	}
	s.note("with other stages")
	s.watchFrom("x", "w.0", `"c"`, images, `, {"$project": {"fullDocument": 1, "operationType": 1}}, `+split)
	s.watchFrom("x", "w.0", `"c"`, images, `, {"$addFields": {"more": "$fullDocument"}}, `+split)
	for range 4 {
		s.more("x", "c")
	}
	s.note("small events")
	s.run(`{"update": "c", "updates": [{"q": {"_id": 2}, "u": {"$set": {"a": 1}}}]}`)
	s.run(`{"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	s.run(`admin {"renameCollection": "DB.c", "to": "DB.d"}`)
	s.more("none", "c")
	s.watchFrom("x", "none.0", `"c"`, images, "")
}

func scriptSplitResume(s *script) {
	s.largeUpdate()
	images := ", " + imageModes("required", "required")
	s.watchFrom("w", "w.0", `"c"`, images, ", "+split)
	s.keep("one", s.values["w.0"])
	s.more("w", "c")
	s.keep("two", s.values["w.0"])
	s.more("w", "c")
	s.keep("three", s.values["w.0"])
	s.keep("behind", s.values["w.1"])
	for _, fragment := range []string{"one", "two", "three", "behind"} {
		for _, stages := range []string{"", ", " + split, `, {"$match": {"operationType": "update"}}, ` + split, `, {"$match": {"operationType": "insert"}}, ` + split} {
			s.note("after %s", fragment)
			s.watchFrom("x", fragment, `"c"`, images, stages)
		}
		s.watch("x", `"c"`, `[{"$changeStream": {"startAfter": "@`+fragment+`"`+images+`}}, `+split+`]`)
		s.note("with other images")
		s.watchFrom("x", fragment, `"c"`, "", ", "+split)
		s.watchFrom("x", fragment, `"c"`, `, "fullDocument": "required"`, ", "+split)
		s.watchFrom("x", fragment, `1`, images, ", "+split)
		s.watchFrom("x", fragment, `"other"`, images, ", "+split)
	}
	s.open("x", `{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": "@one"`+images+`}}, `+split+`], "cursor": {"batchSize": 0}}`)
	for range 4 {
		s.more("x", "c", `, "batchSize": 1`)
	}
	s.note("a fragment of an event that has none, and one that there is not")
	forge := func(name, of, end string) {
		data := s.values[of].Document().Lookup("_data").StringValue()
		data = data[:len(data)-len("2B0204")] + end
		s.keep(name, bsondoc.Value(bsondoc.New().Str("_data", data).Done()))
	}
	forge("four", "two", "2B0604")
	forge("no number", "two", "04")
	s.watchFrom("x", "four", `"c"`, images, ", "+split)
	s.watchFrom("x", "no number", `"c"`, images, ", "+split)
	s.watchFrom("x", "no number", `"c"`, images, "")
}

func scriptSplitErrors(s *script) {
	s.run(`{"create": "c"}`)
	for _, stages := range []string{
		split + `, {"$match": {}}`, split + `, ` + split, `{"$changeStreamSplitLargeEvent": {"x": 1}}`, `{"$changeStreamSplitLargeEvent": 1}`, `{"$changeStreamSplitLargeEvent": {}, "x": 1}`,
		`{"$match": {}}, ` + split, `{"$match": {}}, ` + split + `, {"$project": {"x": 1}}`, split + `, {"$group": {"_id": 1}}`, split + `, {"$nosuch": {}}`,
	} {
		s.watch("x", `"c"`, `[{"$changeStream": {}}, `+stages+`]`)
	}
	s.run(`{"aggregate": "c", "pipeline": [` + split + `], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [{"$changeStreamSplitLargeEvent": 1}], "cursor": {}}`)
	s.run(`{"aggregate": "c", "pipeline": [` + split + `, {"$changeStream": {}}], "cursor": {}}`)
	s.note("fields that are too large each")
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$addFields": {"more": {"a": "$fullDocument", "b": "$fullDocument"}}}, `+split+`]`)
	s.large("q", 9<<10)
	s.run(`{"insert": "c", "documents": [{"_id": 1, "v": "@q"}]}`)
	s.more("w", "c")
	s.more("w", "c")
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$project": {"_id": 0}}, `+split+`]`)
	s.run(`{"insert": "c", "documents": [{"_id": 2}]}`)
	s.more("w", "c")
	s.watch("w", `"c"`, `[{"$changeStream": {}}, {"$set": {"_id": {"more": "$fullDocument", "again": "$fullDocument"}}}, `+split+`]`)
	s.run(`{"insert": "c", "documents": [{"_id": 3, "v": "@q"}]}`)
	s.more("w", "c")
}
