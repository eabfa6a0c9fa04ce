package resumetoken

import (
	"go.mongodb.org/mongo-driver/v2/bson"
)

// The fields of a token, in the order of the server's ResumeToken::getData
// (src/mongo/db/pipeline/resume_token.cpp), with the checks that it makes.

// The two token types of FormatV1 and FormatV2.
const (
	typeHighWaterMark = 0
	typeEvent         = 128
)

func (r *keyReader) token(format36 bool) (d Decoded) {
	d.ClusterTime = r.timestamp()
	if format36 {
		d.Format = Format36
		r.fields36(&d)
	} else {
		r.fields(&d)
	}
	r.end()
	return d
}

// fields36 reads the documentKey and the UUID, in the order of 3.6.
func (r *keyReader) fields36(d *Decoded) {
	if !r.more() {
		r.fail("it has no document key")
		return
	}
	if !r.null() {
		d.DocumentKey = r.document("its document key is not an object")
	}
	if r.more() {
		d.UUID = r.uuid()
	}
}

func (r *keyReader) fields(d *Decoded) {
	switch version := r.int("version"); version {
	case 0, 1, 2:
		d.Format = FormatV0 + Format(version)
	default:
		r.fail("its version is not 0, 1 or 2")
		return
	}
	if d.Format >= FormatV1 {
		d.HighWaterMark = r.highWaterMark()
	}
	if d.TxnOpIndex = int(r.int("transaction index")); d.TxnOpIndex < 0 {
		r.fail("its transaction index is negative")
	}
	if d.Format >= FormatV1 {
		d.FromInvalidate = r.bool("fromInvalidate flag")
	}
	if d.HighWaterMark && (d.TxnOpIndex != 0 || d.FromInvalidate) {
		r.fail("it is a high-water mark that has fields of an event")
	}
	r.event(d)
}

// event reads what identifies the event at the token's time. Before FormatV2
// all of it may be missing; in FormatV2 only a high-water mark has none.
func (r *keyReader) event(d *Decoded) {
	if !r.more() {
		if d.Format >= FormatV2 {
			r.fail("it has neither a UUID nor null")
		}
		return
	}
	if !r.null() {
		d.UUID = r.uuid()
	}
	switch more := r.more(); {
	case d.HighWaterMark:
		// Some 4.2 servers add the collection's UUID.
		if more || d.Format >= FormatV2 && !d.UUID.IsZero() {
			r.fail("it is a high-water mark that has fields of an event")
		}
	case more:
		r.identifier(d)
	case d.Format >= FormatV2:
		r.fail("it has no event identifier")
	}
}

func (r *keyReader) identifier(d *Decoded) {
	id := r.document("its event identifier is not an object")
	if r.err != nil {
		return
	}
	if d.Format >= FormatV2 || d.Format == FormatV1 && isEventID(id) {
		d.OperationType, _ = id.Lookup("operationType").StringValueOK()
		d.DocumentKey, _ = id.Lookup("documentKey").DocumentOK()
		d.OperationDescription, _ = id.Lookup("operationDescription").DocumentOK()
	} else {
		d.DocumentKey = id
	}
	if d.Format >= FormatV2 && r.more() {
		d.IsFragment = true
		if d.Fragment = int(r.int("fragment")); d.Fragment < 0 {
			r.fail("its fragment is negative")
		}
	}
}

// isEventID distinguishes the event identifier of an expanded event from a
// document key, which has the same position in FormatV1: a document key has an
// _id.
func isEventID(id bson.Raw) bool {
	first, err := id.IndexErr(0)
	if err != nil || first.Key() != "operationType" || first.Value().Type != bson.TypeString {
		return false
	}
	_, err = id.LookupErr("_id")
	return err != nil
}

func (r *keyReader) timestamp() bson.Timestamp {
	if r.byte() != ksTimestamp {
		r.fail("it does not begin with a timestamp")
	}
	u := r.uint64(0)
	return bson.Timestamp{T: uint32(u >> 32), I: uint32(u)}
}

func (r *keyReader) highWaterMark() bool {
	switch r.int("token type") {
	case typeHighWaterMark:
		return true
	case typeEvent:
	default:
		r.fail("its token type is neither an event's nor a high-water mark's")
	}
	return false
}

// int reads a number that must be a 32-bit integer. The field's name is for the
// error.
func (r *keyReader) int(field string) int32 {
	if !r.more() {
		r.fail("it has no " + field)
		return 0
	}
	ctype := r.byte()
	if !isNumber(ctype) {
		r.fail("its " + field + " is not a number")
		return 0
	}
	t, b := r.number(nil, ctype)
	if r.err != nil || t != bson.TypeInt32 {
		r.fail("its " + field + " is not a 32-bit integer")
		return 0
	}
	return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}

func (r *keyReader) bool(field string) bool {
	if !r.more() {
		r.fail("it has no " + field)
		return false
	}
	c := r.byte()
	if c != ksTrue && c != ksFalse {
		r.fail("its " + field + " is not a boolean")
	}
	return c == ksTrue
}

// null reads the next field if it is null.
func (r *keyReader) null() bool {
	if r.err != nil || len(r.key) == 0 || r.key[0] != ksNull {
		return false
	}
	r.byte()
	return true
}

func (r *keyReader) uuid() (u UUID) {
	head := r.bytes(3)
	b := r.bytes(len(u))
	if r.err == nil && (head[0] != ksBinData || head[1] != byte(len(u)) || head[2] != bson.TypeBinaryUUID) {
		r.fail("its UUID is not one")
	}
	copy(u[:], b)
	return u
}

func (r *keyReader) document(otherwise string) bson.Raw {
	if c := r.byte(); c != ksObject {
		r.fail(otherwise)
		return nil
	}
	doc := r.object(nil, 1)
	if r.err != nil {
		return nil
	}
	return doc
}
