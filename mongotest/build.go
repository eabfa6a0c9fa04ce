package mongotest

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Documents of clients are no larger than MaxSize. The server's own, such as
// events, have a little more room.
const (
	maxDocumentSize = 16 << 20
	maxInternalSize = maxDocumentSize + 16<<10
)

// A builder writes a BSON document from its front. Replies and events are built
// with it: they have their fields in the server's order, and a batch of events
// is copied once.
type builder struct{ b []byte }

func newBuilder() *builder { return newBuilderSize(256) }

// newBuilderSize is newBuilder with room for a document of a size.
func newBuilderSize(size int) *builder { return &builder{b: make([]byte, 4, max(size, 4))} }

// length is how many bytes have been written.
func (d *builder) length() int { return len(d.b) }

// done is the document.
func (d *builder) done() bson.Raw {
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b, uint32(len(d.b)))
	return d.b
}

func (d *builder) key(t bson.Type, name string) {
	d.b = append(append(append(d.b, byte(t)), name...), 0)
}

func (d *builder) str(name, s string) *builder {
	d.key(bson.TypeString, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(len(s)+1))
	d.b = append(append(d.b, s...), 0)
	return d
}

func (d *builder) int32(name string, i int) *builder {
	d.key(bson.TypeInt32, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(i))
	return d
}

func (d *builder) int64(name string, i int64) *builder {
	d.key(bson.TypeInt64, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, uint64(i))
	return d
}

func (d *builder) float(name string, x float64) *builder {
	d.key(bson.TypeDouble, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, math.Float64bits(x))
	return d
}

func (d *builder) bool(name string, v bool) *builder {
	d.key(bson.TypeBoolean, name)
	if v {
		d.b = append(d.b, 1)
	} else {
		d.b = append(d.b, 0)
	}
	return d
}

func (d *builder) null(name string) *builder {
	d.key(bson.TypeNull, name)
	return d
}

func (d *builder) date(name string, t time.Time) *builder {
	d.key(bson.TypeDateTime, name)
	d.b = binary.LittleEndian.AppendUint64(d.b, uint64(t.UnixMilli()))
	return d
}

func (d *builder) timestamp(name string, ts bson.Timestamp) *builder {
	d.key(bson.TypeTimestamp, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, ts.I)
	d.b = binary.LittleEndian.AppendUint32(d.b, ts.T)
	return d
}

func (d *builder) oid(name string, id bson.ObjectID) *builder {
	d.key(bson.TypeObjectID, name)
	d.b = append(d.b, id[:]...)
	return d
}

func (d *builder) binary(name string, subtype byte, data []byte) *builder {
	d.key(bson.TypeBinary, name)
	d.b = binary.LittleEndian.AppendUint32(d.b, uint32(len(data)))
	d.b = append(append(d.b, subtype), data...)
	return d
}

func (d *builder) doc(name string, doc bson.Raw) *builder {
	d.key(bson.TypeEmbeddedDocument, name)
	d.b = append(d.b, doc...)
	return d
}

func (d *builder) value(name string, v bson.RawValue) *builder {
	d.key(v.Type, name)
	d.b = append(d.b, v.Value...)
	return d
}

// open begins a document within this one, or an array; close ends what began at
// the offset it gave.
func (d *builder) open(t bson.Type, name string) int {
	d.key(t, name)
	d.b = append(d.b, 0, 0, 0, 0)
	return len(d.b) - 4
}

func (d *builder) close(at int) *builder {
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b[at:], uint32(len(d.b)-at))
	return d
}

func (d *builder) docs(name string, docs []bson.Raw) *builder {
	at := d.open(bson.TypeArray, name)
	for i, doc := range docs {
		d.doc(strconv.Itoa(i), doc)
	}
	return d.close(at)
}

func (d *builder) values(name string, values []bson.RawValue) *builder {
	at := d.open(bson.TypeArray, name)
	for i, v := range values {
		d.value(strconv.Itoa(i), v)
	}
	return d.close(at)
}

func (d *builder) strings(name string, list []string) *builder {
	at := d.open(bson.TypeArray, name)
	for i, s := range list {
		d.str(strconv.Itoa(i), s)
	}
	return d.close(at)
}

func (d *builder) elements(list []bson.RawElement) *builder {
	for _, e := range list {
		d.b = append(d.b, e...)
	}
	return d
}

// append takes over the elements of another document.
func (d *builder) append(doc bson.Raw) *builder {
	d.b = append(d.b, doc[4:len(doc)-1]...)
	return d
}

// fields are the elements of a document that has been checked (see checkDoc).
func fields(doc bson.Raw) []bson.RawElement {
	elements, err := doc.Elements()
	if err != nil {
		return nil
	}
	return elements
}

// items are the values of an array that has been checked.
func items(v bson.RawValue) []bson.RawValue {
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

// only is the value of the one field that has been added.
func (d *builder) only() bson.RawValue { return d.done().Index(0).Value() }

func docValue(doc bson.Raw) bson.RawValue {
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: doc}
}

func arrayOf(values []bson.RawValue) bson.RawValue { return newBuilder().values("", values).only() }

var nullValue = bson.RawValue{Type: bson.TypeNull}

var emptyDoc = bson.Raw{5, 0, 0, 0, 0}

// image adds a document that may not be there.
func (d *builder) image(name string, doc bson.Raw) {
	if doc == nil {
		d.null(name)
	} else {
		d.doc(name, doc)
	}
}

// spread is a value, or the elements of an array. A missing value is null.
func spread(v bson.RawValue) []bson.RawValue {
	switch {
	case v.Type == 0:
		return []bson.RawValue{nullValue}
	case v.Type == bson.TypeArray && len(items(v)) > 0:
		return items(v)
	}
	return []bson.RawValue{v}
}

func truth(v bson.RawValue, otherwise bool) bool {
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	if n, ok := asFloat(v); ok {
		return n != 0
	}
	return otherwise
}
