package query

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// CheckSize refuses a document larger than [bsondoc.MaxInternalSize]. size is
// len(doc), or what the server counts instead.
func CheckSize(doc bson.Raw, size int) error {
	if size <= bsondoc.MaxInternalSize {
		return nil
	}
	first := doc.Index(0)
	return cmderr.Errorf(cmderr.BSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB) First element: %s: %s",
		size, size, bsondoc.MaxInternalSize, first.Key(), bsondoc.Shell(first.Value()))
}

func checkResult(doc bson.Raw) error {
	if len(doc) > bsondoc.MaxSize {
		return cmderr.Errorf(17419, "Resulting document after update is larger than %d", bsondoc.MaxSize)
	}
	return nil
}
