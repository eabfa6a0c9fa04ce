package record_test

import (
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// resumeToken stands for what the driver's ChangeStream.ResumeToken returns.
func resumeToken() bson.Raw {
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "8260EC7417000000012B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	return token
}

// The stored form of a record, as a custom store may write it.
func ExampleRecord_AppendJSON() {
	cp, err := state.At(resumeToken())
	if err != nil {
		log.Fatal(err)
	}
	cp.Sequence = 18204
	rec, err := record.Admit(record.Record{}, state.Fence{}, cp, time.Date(2026, 11, 23, 0, 46, 1, 124e6, time.UTC))
	if err != nil {
		log.Fatal(err)
	}
	line, err := rec.AppendJSON(nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))

	_, err = record.Parse(line[:40])
	fmt.Println(err)
	// Output:
	// {"version":1,"token":{"_data":"8260EC7417000000012B0229296E04"},"clusterTime":{"t":1626108951,"i":1},"sequence":18204,"savedAt":"2026-11-23T00:46:01.124Z"}
	// the stored checkpoint is damaged: it is cut short, after 40 bytes
}
