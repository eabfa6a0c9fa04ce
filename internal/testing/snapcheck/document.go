package snapcheck

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A Stamp identifies a write. The contents of the document follow from it.
type Stamp int64

// sizeBits of a stamp are the size of the document, as the power of two of its bytes.
const sizeBits = 5

func stampOf(n int64, size int) Stamp { return Stamp(n<<sizeBits | int64(size)) }

// fields are what a write sets, in the order in which an upsert adds them.
func (s Stamp) fields() bson.D {
	n := int64(s) >> sizeBits
	pad := 1<<(int64(s)&(1<<sizeBits-1)) + n%17
	return bson.D{
		{Key: "pad", Value: strings.Repeat(string(rune('a'+n%26)), int(pad))}, {Key: "square", Value: n * n}, {Key: "w", Value: int64(s)},
	}
}

func (s Stamp) document(id any) bson.D {
	return append(bson.D{{Key: "_id", Value: id}}, s.fields()...)
}

// stampIn is the stamp of a document or of updated fields, 0 if there is none.
func stampIn(raw bson.Raw) Stamp {
	w, _ := raw.Lookup("w").Int64OK()
	return Stamp(w)
}

// intact reports whether a document is the one that was written with its stamp, whole
// and with nothing of another version.
func intact(doc bson.Raw) bool {
	s := stampIn(doc)
	if s == 0 {
		return false
	}
	want, err := bson.Marshal(s.fields())
	if err != nil {
		return false
	}
	elements, err := doc.Elements()
	if err != nil || len(elements) != 4 || elements[0].Key() != "_id" {
		return false
	}
	// Updates keep the order of the fields, so that the rest is equal byte by byte.
	return string(doc[4+len(elements[0]):]) == string(want[4:])
}
