package mongotest

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// What only a real server supports is refused by name, and never silently done
// differently.
func TestRefusedByName(t *testing.T) {
	client := dial(t, Start(t).URI())
	run := func(text string) bson.Raw {
		t.Helper()
		var command bson.D
		if err := bson.UnmarshalExtJSON([]byte(text), false, &command); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		db := "shop"
		if strings.HasPrefix(text, `{"getParameter"`) {
			db = "admin"
		}
		return client.call(db, command)
	}
	run(`{"insert": "c", "documents": [{"_id": 1, "l": [1], "n": 1}]}`)
	run(`{"create": "v", "viewOn": "c"}`)
	run(`{"create": "capped", "capped": true, "size": 1000}`)
	run(`{"create": "t", "timeseries": {"timeField": "t"}}`)
	run(`{"createIndexes": "c", "indexes": [{"key": {"n": 1}, "name": "n_1"}]}`)
	for _, read := range []string{`{"count": "v"}`, `{"distinct": "v", "key": "a"}`, `{"aggregate": "v", "pipeline": [], "cursor": {}}`} {
		if code, _ := bsondoc.Int(run(read).Lookup("code")); code != cmderr.NotImplemented {
			t.Errorf("%s reads through a view", read)
		}
	}
	update := func(u string) string {
		return `{"update": "c", "updates": [{"q": {"_id": 1}, "u": ` + u + `}]}`
	}
	for what, text := range map[string]string{
		"the parameter 'featureCompatibilityVersion'":        `{"getParameter": 1, "featureCompatibilityVersion": 1}`,
		"the parameter 'logLevel'":                           `{"getParameter": "*", "logLevel": 1}`,
		"getParameter without the name of a parameter":       `{"getParameter": 1}`,
		"min and max of other indexes than that of _id":      `{"find": "c", "hint": "n_1", "min": {"n": 1}}`,
		"the option 'latencyStats' of $collStats":            `{"aggregate": "c", "pipeline": [{"$collStats": {"latencyStats": {}}}], "cursor": {}}`,
		"writes to time-series collections":                  `{"insert": "t", "documents": [{"_id": 1}]}`,
		"writes to capped collections":                       `{"insert": "capped", "documents": [{"_id": 1}]}`,
		"positional updates, such as of 'l.$'":               update(`{"$set": {"l.$": 1}}`),
		"the update operator $bit":                           update(`{"$bit": {"n": {"and": 1}}}`),
		"$inc with a decimal":                                update(`{"$inc": {"n": {"$numberDecimal": "1"}}}`),
		"$sort in $push":                                     update(`{"$push": {"l": {"$each": [1], "$sort": 1}}}`),
		"the expression $add":                                update(`[{"$set": {"n": {"$add": [1, 2]}}}]`),
		"the variable $$NOW":                                 update(`[{"$set": {"n": "$$NOW"}}]`),
		"the option 'arrayFilters' of update.updates":        `{"update": "c", "updates": [{"q": {}, "u": {"$set": {"n": 1}}, "arrayFilters": [{"x": 1}]}]}`,
		"the option 'c' of update.updates":                   `{"update": "c", "updates": [{"q": {}, "u": [{"$set": {"n": 1}}], "c": {"x": 1}}]}`,
		"the option 'let' of update":                         `{"update": "c", "updates": [{"q": {}, "u": [{"$set": {"n": 1}}]}], "let": {"x": 1}}`,
		"the option 'let' of findAndModify":                  `{"findAndModify": "c", "update": [{"$set": {"n": 1}}], "let": {"x": 1}}`,
		"reading through a view":                             `{"find": "v"}`,
		"writes to system.views":                             `{"insert": "system.views", "documents": [{"_id": 1}]}`,
		"the option 'viewOn' of collMod":                     `{"collMod": "v", "viewOn": "c"}`,
		"other options of time-series collections":           `{"create": "w", "timeseries": {"timeField": "t"}, "capped": true, "size": 100}`,
		"the option 'collation' of create":                   `{"create": "w", "collation": {"locale": "de"}}`,
		"the option 'collation' of find":                     `{"find": "c", "collation": {"locale": "de"}}`,
		"the option 'explain' of aggregate":                  `{"aggregate": "c", "pipeline": [], "cursor": {}, "explain": true}`,
		"the option 'recordPreImages' of collMod":            `{"collMod": "c", "recordPreImages": true}`,
		"the stage $lookup":                                  `{"aggregate": "c", "pipeline": [{"$lookup": {}}], "cursor": {}}`,
		"aggregate on a database without $changeStream":      `{"aggregate": 1, "pipeline": [], "cursor": {}}`,
		"the fail point 'onPrimaryTransactionalWrite'":       `{"configureFailPoint": "onPrimaryTransactionalWrite", "mode": "alwaysOn"}`,
		"$group except for counting: {$group: {_id: 1, n: {": `{"aggregate": "c", "pipeline": [{"$group": {"_id": "$n"}}], "cursor": {}}`,
	} {
		reply := run(text)
		if errs, ok := reply.Lookup("writeErrors").ArrayOK(); ok {
			reply = errs.Index(0).Document()
		}
		code, _ := bsondoc.Int(reply.Lookup("code"))
		msg, _ := reply.Lookup("errmsg").StringValueOK()
		if code != cmderr.NotImplemented || !strings.Contains(msg, "mongotest does not support "+what) {
			t.Errorf("%s\nis answered %s\nand not that mongotest does not support %s", text, reply, what)
		}
	}
	if found := run(`{"find": "c"}`).Lookup("cursor", "firstBatch").String(); found != `[{"_id": {"$numberInt":"1"},"l": [{"$numberInt":"1"}],"n": {"$numberInt":"1"}}]` {
		t.Errorf("what was refused left %s", found)
	}
}
