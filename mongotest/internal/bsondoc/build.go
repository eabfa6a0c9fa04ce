// Package bsondoc builds BSON documents and compares BSON values in the way that
// a MongoDB server does. Its functions that read a document take one that is
// known to be well-formed (mongotest checks every message when it arrives), and
// a [bson.RawValue] of type 0 stands for a missing value.
package bsondoc

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// MaxSize is the size limit of a client's document.
	MaxSize = 16 << 20
	// MaxInternalSize is the size limit of the server's own, such as events.
	MaxInternalSize = MaxSize + 16<<10
)

// A Builder writes a BSON document field by field. Replies and events are built
// with it: their fields keep the server's order, and a batch of events is copied
// only once.
type Builder struct{ b []byte }

// New returns a Builder of an empty document.
func New() *Builder { return NewSize(256) }

// NewSize is New with memory for a document of that size.
func NewSize(size int) *Builder { return &Builder{b: make([]byte, 4, max(size, 4))} }

// Len returns the number of bytes written so far.
func (d *Builder) Len() int { return len(d.b) }

// Grow makes memory for another n bytes.
func (d *Builder) Grow(n int) { d.b = slices.Grow(d.b, n) }

// Clone returns a copy, to which other fields can be added.
func (d *Builder) Clone() *Builder { return &Builder{b: slices.Clone(d.b)} }

// Done ends the document and returns it. The Builder must not be used after that.
func (d *Builder) Done() bson.Raw {
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b, uint32(len(d.b)))
	return d.b
}

func (d *Builder) key(t bson.Type, name string) {
	d.b = append(append(append(d.b, byte(t)), name...), 0)
}

// Str adds a string.
func (d *Builder) Str(name, s string) *Builder {
	d.key(bson.TypeString, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(len(s)+1))
	d.b = append(append(d.b, s...), 0)
	return d
}

// Int32 adds a 32-bit integer.
func (d *Builder) Int32(name string, i int) *Builder {
	d.key(bson.TypeInt32, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(i))
	return d
}

// Int64 adds a 64-bit integer.
func (d *Builder) Int64(name string, i int64) *Builder {
	d.key(bson.TypeInt64, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, uint64(i))
	return d
}

// Float adds a double.
func (d *Builder) Float(name string, x float64) *Builder {
	d.key(bson.TypeDouble, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, math.Float64bits(x))
	return d
}

// Bool adds a boolean.
func (d *Builder) Bool(name string, v bool) *Builder {
	d.key(bson.TypeBoolean, name)
	if v {
		d.b = append(d.b, 1)
	} else {
		d.b = append(d.b, 0)
	}
	return d
}

// Null adds null.
func (d *Builder) Null(name string) *Builder {
	d.key(bson.TypeNull, name)
	return d
}

// Date adds a date.
func (d *Builder) Date(name string, t time.Time) *Builder {
	d.key(bson.TypeDateTime, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, uint64(t.UnixMilli()))
	return d
}

// Timestamp adds a timestamp.
func (d *Builder) Timestamp(name string, ts bson.Timestamp) *Builder {
	d.key(bson.TypeTimestamp, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, ts.I)
	d.b = binary.LittleEndian.AppendUint32(d.b, ts.T)
	return d
}

// ObjectID adds an ObjectId.
func (d *Builder) ObjectID(name string, id bson.ObjectID) *Builder {
	d.key(bson.TypeObjectID, name)
	d.b = append(d.b, id[:]...)
	return d
}

// Binary adds binary data.
func (d *Builder) Binary(name string, subtype byte, data []byte) *Builder {
	d.key(bson.TypeBinary, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(len(data)))
	d.b = append(append(d.b, subtype), data...)
	return d
}

// Doc adds an embedded document.
func (d *Builder) Doc(name string, doc bson.Raw) *Builder {
	d.key(bson.TypeEmbeddedDocument, name)
	d.b = append(d.b, doc...)
	return d
}

// Value adds a value of any type.
func (d *Builder) Value(name string, v bson.RawValue) *Builder {
	d.key(v.Type, name)
	d.b = append(d.b, v.Value...)
	return d
}

// Open begins an embedded document or array, whose fields are written next.
// Close, given the offset that Open returned, ends it.
func (d *Builder) Open(t bson.Type, name string) int {
	d.key(t, name)
	d.b = append(d.b, 0, 0, 0, 0)
	return len(d.b) - 4
}

// Close ends what Open began.
func (d *Builder) Close(at int) *Builder {
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b[at:], uint32(len(d.b)-at))
	return d
}

// Docs adds an array of documents.
func (d *Builder) Docs(name string, docs []bson.Raw) *Builder {
	at := d.Open(bson.TypeArray, name)
	for i, doc := range docs {
		d.Doc(strconv.Itoa(i), doc)
	}
	return d.Close(at)
}

// Values adds an array of values.
func (d *Builder) Values(name string, values []bson.RawValue) *Builder {
	at := d.Open(bson.TypeArray, name)
	for i, v := range values {
		d.Value(strconv.Itoa(i), v)
	}
	return d.Close(at)
}

// Strings adds an array of strings.
func (d *Builder) Strings(name string, list []string) *Builder {
	at := d.Open(bson.TypeArray, name)
	for i, s := range list {
		d.Str(strconv.Itoa(i), s)
	}
	return d.Close(at)
}

// Elements adds elements, with their names.
func (d *Builder) Elements(list []bson.RawElement) *Builder {
	for _, e := range list {
		d.b = append(d.b, e...)
	}
	return d
}

// Append adds the elements of another document.
func (d *Builder) Append(doc bson.Raw) *Builder {
	d.b = append(d.b, doc[4:len(doc)-1]...)
	return d
}

// Fields returns the elements of a document.
func Fields(doc bson.Raw) []bson.RawElement {
	elements, err := doc.Elements()
	if err != nil {
		return nil
	}
	return elements
}

// Items returns the elements of an array; none for any other value.
func Items(v bson.RawValue) []bson.RawValue {
	a, ok := v.ArrayOK()
	if !ok {
		return nil
	}
	values, err := a.Values()
	if err != nil {
		return nil
	}
	return values
}

// Only returns the value of the first field.
func (d *Builder) Only() bson.RawValue { return d.Done().Index(0).Value() }

// Value returns a document as a value.
func Value(doc bson.Raw) bson.RawValue {
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: doc}
}

// Array returns an array of the values.
func Array(values []bson.RawValue) bson.RawValue { return New().Values("", values).Only() }

// Null is the value null.
var Null = bson.RawValue{Type: bson.TypeNull}

// Empty is the document {}.
var Empty = bson.Raw{5, 0, 0, 0, 0}

// DocOrNull adds a document, or null if doc is nil.
func (d *Builder) DocOrNull(name string, doc bson.Raw) {
	if doc == nil {
		d.Null(name)
	} else {
		d.Doc(name, doc)
	}
}

// Spread returns the elements of a non-empty array, null for a missing value, and
// any other value as it is.
func Spread(v bson.RawValue) []bson.RawValue {
	switch {
	case v.Type == 0:
		return []bson.RawValue{Null}
	case v.Type == bson.TypeArray && len(Items(v)) > 0:
		return Items(v)
	}
	return []bson.RawValue{v}
}

// Truth returns v as a boolean: numbers are true unless 0. It returns otherwise if v
// is missing or of a type that has no truth.
func Truth(v bson.RawValue, otherwise bool) bool {
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	if n, ok := Float(v); ok {
		return n != 0
	}
	return otherwise
}
