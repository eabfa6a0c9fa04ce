package resumetoken

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KeyString returns the bytes that a MongoDB index sorts a value by: two values of
// whatever types compare in an index on one ascending field, such as that on _id, as
// these bytes do ([bytes.Compare]). Values that the server holds for equal, such as the
// number 1 of each type, have the same bytes. It is version 1 of the server's KeyString
// format, without its end and its type bits.
//
// It does not apply to an index with a collation, which sorts strings in another order,
// nor to one on an array's elements. The error is [ErrMalformed] for a value that is not
// valid BSON or is nested too deeply.
func KeyString(v bson.RawValue) ([]byte, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("%w: a value is not valid BSON", ErrMalformed)
	}
	w := keyWriter{key: make([]byte, 0, 2*len(v.Value)+8)}
	w.value(v, 1)
	return w.key, w.err
}
