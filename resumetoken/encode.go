package resumetoken

import (
	"encoding/hex"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Encode returns the token with the given contents, byte for byte as a server
// writes it. It is the inverse of [Token.Decode], and is meant for test servers. A
// real server opens a stream with a made-up token only if it is a high-water mark
// or the token of an event that the server has.
//
// The error is [ErrMalformed] if no token has these contents: the Format does not
// exist or does not have one of the fields, a high-water mark has fields of an
// event, or a document is invalid or nested too deeply.
func Encode(d Decoded) (Token, error) {
	var w keyWriter
	w.key = make([]byte, 0, 64+2*len(d.DocumentKey)+2*len(d.OperationDescription))
	w.check(d)
	w.byte(ksTimestamp)
	w.uint64(uint64(d.ClusterTime.T)<<32|uint64(d.ClusterTime.I), 0)
	if d.Format == Format36 {
		w.fields36(d)
	} else {
		w.fields(d)
	}
	w.byte(ksEnd)
	if w.err != nil {
		return Token{}, w.err
	}
	return w.token(d.Format)
}

// check refuses what a decoder would refuse, and what the format would lose.
func (w *keyWriter) check(d Decoded) {
	event := d.TxnOpIndex != 0 || d.FromInvalidate || d.DocumentKey != nil || d.OperationType != "" ||
		d.OperationDescription != nil || d.IsFragment || d.Fragment != 0
	old := d.Format < FormatV1
	switch {
	case d.Format < Format36 || d.Format > FormatV2:
		w.fail("its format does not exist")
	case d.HighWaterMark && (event || d.Format == FormatV2 && !d.UUID.IsZero()):
		w.fail("it is a high-water mark that has fields of an event")
	case old && (d.HighWaterMark || d.FromInvalidate || d.OperationType != "" || d.OperationDescription != nil),
		d.Format == Format36 && d.TxnOpIndex != 0:
		w.fail("it has fields that its format does not have")
	case d.TxnOpIndex < 0 || int(int32(d.TxnOpIndex)) != d.TxnOpIndex:
		w.fail("its transaction index is negative or not a 32-bit integer")
	case d.Fragment < 0 || int(int32(d.Fragment)) != d.Fragment:
		w.fail("its fragment is negative or not a 32-bit integer")
	case (d.IsFragment || d.Fragment != 0) && (d.Format != FormatV2 || !d.IsFragment):
		w.fail("it has a fragment that it can't have")
	case d.Format == FormatV1 && d.OperationType == "" && d.OperationDescription != nil,
		d.Format == FormatV2 && d.OperationType == "" && !d.HighWaterMark:
		w.fail("it has no operation type")
	case d.DocumentKey != nil && d.OperationDescription != nil:
		w.fail("it has both a document key and an operation description")
	case d.Format == FormatV1 && d.OperationType == "" && d.DocumentKey != nil && isEventID(d.DocumentKey):
		w.fail("its document key would be read as an event identifier")
	}
}

func (w *keyWriter) fields36(d Decoded) {
	if d.DocumentKey == nil {
		w.byte(ksNull)
	} else {
		w.document(d.DocumentKey)
	}
	if !d.UUID.IsZero() {
		w.uuid(d.UUID)
	}
}

func (w *keyWriter) fields(d Decoded) {
	w.int32(int32(d.Format.Version()))
	if d.Format >= FormatV1 {
		tokenType := int32(typeEvent)
		if d.HighWaterMark {
			tokenType = typeHighWaterMark
		}
		w.int32(tokenType)
	}
	w.int32(int32(d.TxnOpIndex))
	if d.Format >= FormatV1 {
		w.bool(d.FromInvalidate)
	}
	id := d.DocumentKey != nil || d.OperationType != ""
	switch {
	case !d.UUID.IsZero():
		w.uuid(d.UUID)
	case id || d.Format == FormatV2:
		w.byte(ksNull)
	}
	switch {
	case d.OperationType != "":
		w.document(d.eventID())
	case id:
		w.document(d.DocumentKey)
	}
	if d.IsFragment {
		w.int32(int32(d.Fragment))
	}
}

func (d Decoded) eventID() bson.Raw {
	id := []byte{0, 0, 0, 0, byte(bson.TypeString)}
	id = append(append(id, "operationType"...), 0)
	at := len(id)
	id = append(append(append(id, 0, 0, 0, 0), d.OperationType...), 0)
	setLength(id, at, len(id)-at-4)
	appendDocument := func(name string, doc bson.Raw) {
		if doc != nil {
			id = append(append(append(id, byte(bson.TypeEmbeddedDocument)), name...), 0)
			id = append(id, doc...)
		}
	}
	appendDocument("documentKey", d.DocumentKey)
	appendDocument("operationDescription", d.OperationDescription)
	return closeAt(append(id, 0), 0)
}

// token returns the document around the key.
func (w *keyWriter) token(format Format) (Token, error) {
	doc := []byte{0, 0, 0, 0}
	element := func(t bson.Type, name string, n int) {
		doc = append(append(append(doc, byte(t)), name...), 0)
		doc = append(doc, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	if format == Format36 {
		element(bson.TypeBinary, "_data", len(w.key))
		doc = append(append(doc, bson.TypeBinaryGeneric), w.key...)
	} else {
		element(bson.TypeString, "_data", 2*len(w.key)+1)
		doc = append(append(doc, strings.ToUpper(hex.EncodeToString(w.key))...), 0)
	}
	if bits := w.bits.bytes(); bits != nil {
		element(bson.TypeBinary, "_typeBits", len(bits))
		doc = append(append(doc, bson.TypeBinaryGeneric), bits...)
	}
	if len(doc) > maxTokenSize {
		return Token{}, fmt.Errorf("%w: it is larger than a document may be", ErrMalformed)
	}
	return Token{doc: string(closeAt(append(doc, 0), 0))}, nil
}

// maxTokenSize keeps lengths within the 32 bits of BSON's. The server's own
// limit for documents is lower, and tokens have none.
const maxTokenSize = 1 << 30
