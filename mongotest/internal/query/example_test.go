package query_test

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

func parse(text string) (doc bson.Raw) {
	if err := bson.UnmarshalExtJSON([]byte(text), false, &doc); err != nil {
		panic(err)
	}
	return doc
}

func ExampleCompileFilter() {
	filter, err := query.CompileFilter(parse(`{"total": {"$gt": 10}, "tags": "new"}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(filter.Match(parse(`{"total": 12.5, "tags": ["paid", "new"]}`)))
	_, err = query.CompileFilter(parse(`{"total": {"$above": 10}}`))
	fmt.Println(err)
	// Output:
	// true
	// 2 BadValue: unknown operator: $above
}

func ExampleUpdate_Apply() {
	update, err := query.CompileUpdate(bsondoc.Value(parse(`{"$inc": {"stock.left": -1}, "$push": {"buyers": "Ada"}}`)))
	if err != nil {
		panic(err)
	}
	after, change, err := update.Apply(parse(`{"_id": 1, "stock": {"left": 3}, "buyers": ["Bob"]}`), false)
	if err != nil {
		panic(err)
	}
	fmt.Println(bsondoc.Shell(bsondoc.Value(after)))
	fmt.Println(bsondoc.Shell(bsondoc.Value(change.Description())))
	// Output:
	// { _id: 1, stock: { left: 2 }, buyers: [ "Bob", "Ada" ] }
	// { updatedFields: { buyers.1: "Ada", stock.left: 2 }, removedFields: [], truncatedArrays: [] }
}

func ExampleCompileProjection() {
	projection, err := query.CompileProjection(parse(`{"lines.price": 1, "buyer": "$user.name"}`))
	if err != nil {
		panic(err)
	}
	doc, err := projection.Apply(parse(`{"_id": 1, "lines": [{"sku": "a", "price": 2}, {"price": 3}], "user": {"name": "Ada"}}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(bsondoc.Shell(bsondoc.Value(doc)))
	// Output: { _id: 1, lines: [ { price: 2 }, { price: 3 } ], buyer: "Ada" }
}
