package mongotest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// The wire protocol: OP_MSG, and OP_QUERY with its OP_REPLY for the first hello
// of a connection. See
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/.

const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	headerSize       = 16
	maxMessageSize   = 48_000_000
	maxDocumentDepth = 200

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1
	flagsRequired  = 1<<16 - 1 // the ones that a server must not ignore
)

var (
	errFrame      = errors.New("mongotest: malformed message")
	castagnoliCRC = crc32.MakeTable(crc32.Castagnoli)
)

// A message is one request.
type message struct {
	requestID int32
	legacy    bool // OP_QUERY
	noReply   bool
	body      bson.Raw
	// sequences are the sections of kind 1, by name.
	sequences map[string][]bson.Raw
}

// readMessage reads one message. Any error ends the connection: after a wrong
// length, nobody knows where the next message begins.
func readMessage(r io.Reader) (*message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := int(int32(binary.LittleEndian.Uint32(header[:])))
	if size < headerSize || size > maxMessageSize {
		return nil, errFrame
	}
	// Memory grows with what is received: a length alone is no reason to
	// allocate 48 MB.
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(size-headerSize)); err != nil {
		return nil, err
	}
	m := &message{requestID: int32(binary.LittleEndian.Uint32(header[4:]))}
	switch binary.LittleEndian.Uint32(header[12:]) {
	case opMsg:
		return m, m.parseMsg(header[:], buf.Bytes())
	case opQuery:
		return m, m.parseQuery(buf.Bytes())
	}
	return nil, errFrame
}

func (m *message) parseMsg(header, b []byte) error {
	if len(b) < 5 {
		return errFrame
	}
	flags := binary.LittleEndian.Uint32(b)
	if flags&flagsRequired&^(flagChecksum|flagMoreToCome) != 0 {
		return errFrame
	}
	m.noReply = flags&flagMoreToCome != 0
	if flags&flagChecksum != 0 {
		n := len(b) - 4
		if n < 5 || crc32.Update(crc32.Checksum(header, castagnoliCRC), castagnoliCRC, b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
			return errFrame
		}
		b = b[:n]
	}
	for b = b[4:]; len(b) > 0; {
		var err error
		if b, err = m.section(b[0], b[1:]); err != nil {
			return err
		}
	}
	if m.body == nil {
		return errFrame
	}
	return nil
}

// section reads one section from the front of b.
func (m *message) section(kind byte, b []byte) (rest []byte, err error) {
	switch kind {
	case 0:
		doc, rest, err := takeDoc(b, bsondoc.MaxInternalSize)
		if err != nil || m.body != nil {
			return nil, errFrame
		}
		m.body = doc
		return rest, nil
	case 1:
		return m.sequence(b)
	}
	return nil, errFrame
}

func (m *message) sequence(b []byte) (rest []byte, err error) {
	if len(b) < 4 {
		return nil, errFrame
	}
	size := int(int32(binary.LittleEndian.Uint32(b)))
	if size < 5 || size > len(b) {
		return nil, errFrame
	}
	b, rest = b[4:size], b[size:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return nil, errFrame
	}
	name := string(b[:end])
	if _, twice := m.sequences[name]; twice {
		return nil, errFrame
	}
	docs := []bson.Raw{}
	for b = b[end+1:]; len(b) > 0; {
		var doc bson.Raw
		if doc, b, err = takeDoc(b, bsondoc.MaxInternalSize); err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	if m.sequences == nil {
		m.sequences = map[string][]bson.Raw{}
	}
	m.sequences[name] = docs
	return rest, nil
}

// parseQuery reads OP_QUERY, as far as handshakes use it.
func (m *message) parseQuery(b []byte) error {
	m.legacy = true
	if len(b) < 4 {
		return errFrame
	}
	b = b[4:]
	end := bytes.IndexByte(b, 0)
	if end < 0 || !bytes.HasSuffix(b[:end], []byte(".$cmd")) || len(b) < end+9 {
		return errFrame
	}
	db := string(b[:end-len(".$cmd")])
	doc, rest, err := takeDoc(b[end+9:], bsondoc.MaxInternalSize)
	if err != nil {
		return err
	}
	if len(rest) > 0 { // the fields to return
		if _, rest, err = takeDoc(rest, bsondoc.MaxInternalSize); err != nil || len(rest) > 0 {
			return errFrame
		}
	}
	if _, err := doc.LookupErr("$db"); err != nil {
		doc = bsondoc.New().Append(doc).Str("$db", db).Done()
	}
	m.body = doc
	return nil
}

// frame returns the message that replies to a request.
func (m *message) frame(id int32, reply bson.Raw) []byte {
	out := make([]byte, headerSize, headerSize+20+len(reply))
	binary.LittleEndian.PutUint32(out[4:], uint32(id))
	binary.LittleEndian.PutUint32(out[8:], uint32(m.requestID))
	if m.legacy {
		binary.LittleEndian.PutUint32(out[12:], opReply)
		out = append(out, 8, 0, 0, 0)           // AwaitCapable
		out = append(out, make([]byte, 8+4)...) // no cursor, from the first
		out = append(out, 1, 0, 0, 0)           // one document
	} else {
		binary.LittleEndian.PutUint32(out[12:], opMsg)
		out = append(out, 0, 0, 0, 0, 0) // no flags; a section of kind 0
	}
	out = append(out, reply...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return out
}

// takeDoc reads and checks a document from the front of b.
func takeDoc(b []byte, limit int) (doc bson.Raw, rest []byte, err error) {
	if len(b) < 5 {
		return nil, nil, errFrame
	}
	n := int(int32(binary.LittleEndian.Uint32(b)))
	if n < 5 || n > len(b) || n > limit || !checkDoc(b[:n], 1) {
		return nil, nil, errFrame
	}
	return bson.Raw(b[:n:n]), b[n:], nil
}

// checkDoc reports whether a document is well-formed at every level, and not
// nested too deeply. Documents that pass can be read without further checks.
func checkDoc(b []byte, depth int) bool {
	if depth > maxDocumentDepth || len(b) < 5 || int(int32(binary.LittleEndian.Uint32(b))) != len(b) || b[len(b)-1] != 0 {
		return false
	}
	for b = b[4 : len(b)-1]; len(b) > 0; {
		end := bytes.IndexByte(b[1:], 0)
		if end < 0 {
			return false
		}
		t := bson.Type(b[0])
		b = b[end+2:]
		n := valueSize(t, b)
		if n < 0 || n > len(b) || !checkValue(t, b[:n], depth) {
			return false
		}
		b = b[n:]
	}
	return true
}

// valueSize returns the length of a value according to its own header; -1 if it
// is too short to have one.
func valueSize(t bson.Type, b []byte) int {
	length := func(extra int) int {
		if len(b) < 4 {
			return -1
		}
		n := int(int32(binary.LittleEndian.Uint32(b)))
		if n < 0 {
			return -1
		}
		return n + extra
	}
	switch t {
	case bson.TypeDouble, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeInt64:
		return 8
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return length(4)
	case bson.TypeEmbeddedDocument, bson.TypeArray, bson.TypeCodeWithScope:
		return length(0)
	case bson.TypeBinary:
		return length(5)
	case bson.TypeDBPointer:
		return length(4 + 12)
	case bson.TypeObjectID:
		return 12
	case bson.TypeBoolean:
		return 1
	case bson.TypeInt32:
		return 4
	case bson.TypeDecimal128:
		return 16
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		return 0
	case bson.TypeRegex:
		pattern := bytes.IndexByte(b, 0)
		if pattern < 0 {
			return -1
		}
		options := bytes.IndexByte(b[pattern+1:], 0)
		if options < 0 {
			return -1
		}
		return pattern + options + 2
	}
	return -1
}

func checkValue(t bson.Type, b []byte, depth int) bool {
	switch t {
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return len(b) >= 5 && b[len(b)-1] == 0
	case bson.TypeDBPointer:
		return len(b) >= 17 && b[len(b)-13] == 0
	case bson.TypeBinary:
		return b[4] != bson.TypeBinaryBinaryOld || len(b) >= 9 && int(int32(binary.LittleEndian.Uint32(b[5:]))) == len(b)-9
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return checkDoc(b, depth+1)
	case bson.TypeBoolean:
		return b[0] <= 1
	case bson.TypeCodeWithScope:
		if len(b) < 14 {
			return false
		}
		n := int(int32(binary.LittleEndian.Uint32(b[4:])))
		return n >= 1 && n <= len(b)-8-5 && b[8+n-1] == 0 && checkDoc(b[8+n:], depth+1)
	}
	return true
}
