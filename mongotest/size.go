package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/bson"
)

// checkSize refuses a document of a size that not even the server itself has.
func checkSize(doc bson.Raw, size int) error {
	if size <= maxInternalSize {
		return nil
	}
	first := doc.Index(0)
	return failf(codeBSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB) First element: %s: %s",
		size, size, maxInternalSize, first.Key(), shell(first.Value()))
}

func checkResult(doc bson.Raw) error {
	if len(doc) > maxDocumentSize {
		return failf(17419, "Resulting document after update is larger than %d", maxDocumentSize)
	}
	return nil
}
