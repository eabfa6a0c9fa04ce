package extjson_test

import (
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/extjson"
)

func ExampleAppend() {
	doc, err := bson.Marshal(bson.D{
		{Key: "_id", Value: bson.ObjectID{0x65, 0xa1}},
		{Key: "at", Value: time.UnixMilli(1794000000120)},
		{Key: "n", Value: int64(5)},
	})
	if err != nil {
		log.Fatal(err)
	}
	var line []byte
	for _, mode := range []extjson.Mode{extjson.Relaxed, extjson.Canonical, extjson.Simplified} {
		line, err = extjson.Append(line[:0], doc, mode)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", line)
	}
	// Output:
	// {"_id":{"$oid":"65a100000000000000000000"},"at":{"$date":"2026-11-06T21:20:00.12Z"},"n":5}
	// {"_id":{"$oid":"65a100000000000000000000"},"at":{"$date":{"$numberLong":"1794000000120"}},"n":{"$numberLong":"5"}}
	// {"_id":"65a100000000000000000000","at":"2026-11-06T21:20:00.120Z","n":5}
}

func ExampleAppendValue() {
	doc, err := bson.Marshal(bson.D{{Key: "_id", Value: bson.ObjectID{0x65, 0xa1}}})
	if err != nil {
		log.Fatal(err)
	}
	id, err := extjson.AppendValue(nil, bson.Raw(doc).Lookup("_id"), extjson.Simplified)
	fmt.Printf("%s %v\n", id, err)
	// Output:
	// "65a100000000000000000000" <nil>
}
