package checkpoints

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A connectOffset is one offset of Kafka Connect: of a connector's partition.
type connectOffset struct {
	connector string
	partition string // as JSON
	value     map[string]json.RawMessage
}

// name is what people call it.
func (o connectOffset) name() string { return strings.TrimSpace(o.connector + " " + o.partition) }

var errNoOffsets = fmt.Errorf("%w: it has none of the forms in which Kafka Connect keeps offsets: a file of offset.storage.file.filename, "+
	"the answer of GET /connectors/NAME/offsets, lines of the offsets topic with their keys, or the JSON of one offset", ErrNoToken)

// connectOffsets reads offsets in any form in which they can be had, the last of
// each partition.
func connectOffsets(text []byte) ([]connectOffset, error) {
	if bytes.HasPrefix(text, []byte{0xac, 0xed}) {
		return offsetsOfFile(text)
	}
	trimmed := bytes.TrimSpace(text)
	if bytes.HasPrefix(trimmed, []byte("[")) {
		return offsetsOfTopic(trimmed)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(trimmed, &whole); err != nil {
		return nil, errNoOffsets
	}
	if list, ok := whole["offsets"]; ok {
		return offsetsOfREST(list)
	}
	return []connectOffset{{value: whole}}, nil
}

// offsetsOfREST reads the list in the answer of GET /connectors/NAME/offsets.
func offsetsOfREST(list []byte) ([]connectOffset, error) {
	var items []struct {
		Partition json.RawMessage            `json:"partition"`
		Offset    map[string]json.RawMessage `json:"offset"`
	}
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, errNoOffsets
	}
	var all []connectOffset
	for _, i := range items {
		all = latest(all, connectOffset{partition: string(i.Partition), value: i.Offset})
	}
	return all, nil
}

// offsetsOfTopic reads what kafka-console-consumer prints of the offsets topic with
// print.key=true: a key, a separator, and a value, null where it was removed.
func offsetsOfTopic(text []byte) ([]connectOffset, error) {
	var all []connectOffset
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(line))
		var key json.RawMessage
		if err := d.Decode(&key); err != nil {
			return nil, errNoOffsets
		}
		rest := line[d.InputOffset():]
		at := bytes.IndexAny(rest, "{n")
		if at < 0 {
			return nil, errNoOffsets
		}
		o, err := offsetOf(key, rest[at:])
		if err != nil {
			return nil, err
		}
		all = latest(all, o)
	}
	return all, nil
}

// offsetOf reads a key ["connector",{partition}] and its value.
func offsetOf(key, value []byte) (connectOffset, error) {
	var parts []json.RawMessage
	var o connectOffset
	if json.Unmarshal(key, &parts) != nil || len(parts) != 2 || json.Unmarshal(parts[0], &o.connector) != nil {
		return o, errNoOffsets
	}
	o.partition = string(parts[1])
	if string(bytes.TrimSpace(value)) == "null" {
		return o, nil
	}
	if err := json.Unmarshal(value, &o.value); err != nil {
		return o, errNoOffsets
	}
	return o, nil
}

// latest adds an offset, in place of an earlier one of the same partition.
func latest(all []connectOffset, o connectOffset) []connectOffset {
	all = slices.DeleteFunc(all, func(p connectOffset) bool { return p.connector == o.connector && p.partition == o.partition })
	if o.value == nil {
		return all
	}
	return append(all, o)
}

// offsetsOfFile reads the file of Connect's FileOffsetBackingStore: a HashMap of
// byte arrays, keys and values in turn, as Java serializes it
// (https://docs.oracle.com/javase/8/docs/platform/serialization/spec/protocol.html).
func offsetsOfFile(text []byte) ([]connectOffset, error) {
	const hashMap = "java.util.HashMap"
	at := bytes.Index(text, []byte(hashMap))
	if at < 0 {
		return nil, errNoOffsets
	}
	arrays, err := byteArrays(bytes.NewReader(text[at+len(hashMap):]))
	if err != nil || len(arrays)%2 != 0 {
		return nil, fmt.Errorf("the offsets file is damaged: %w", errors.Join(err, errNoOffsets))
	}
	var all []connectOffset
	for pair := range slices.Chunk(arrays, 2) {
		if pair[1] == nil {
			continue
		}
		o, err := offsetOf(pair[0], pair[1])
		if err != nil {
			return nil, err
		}
		all = latest(all, o)
	}
	return all, nil
}

// What Java's serialization protocol calls TC_NULL and so on.
const (
	javaNull      = 0x70
	javaReference = 0x71
	javaClass     = 0x72
	javaArray     = 0x75
	javaBlock     = 0x77
	javaEndBlock  = 0x78
)

// byteArrays reads the arrays that follow the description of the HashMap's class.
func byteArrays(r *bytes.Reader) ([][]byte, error) {
	// The class: serialVersionUID, flags, two fields; then their values.
	for b, err := r.ReadByte(); b != javaBlock; b, err = r.ReadByte() {
		if err != nil {
			return nil, err
		}
	}
	if _, err := r.Seek(1+8, io.SeekCurrent); err != nil { // its length, the map's capacity and size
		return nil, err
	}
	var all [][]byte
	for {
		kind, err := r.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case kind == javaEndBlock:
			return all, nil
		case kind == javaNull:
			all = append(all, nil)
			continue
		case kind != javaArray:
			return nil, fmt.Errorf("byte %#x where an array must be", kind)
		}
		a, err := byteArray(r)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
}

// byteArray reads one array of bytes, after its first byte.
func byteArray(r *bytes.Reader) ([]byte, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case javaReference:
		_, err = r.Seek(4, io.SeekCurrent) // the handle of the class
	case javaClass:
		// "[B", serialVersionUID, flags, no fields, end of annotations, no superclass
		_, err = r.Seek(2+2+8+1+2+1+1, io.SeekCurrent)
	default:
		err = fmt.Errorf("byte %#x where a class must be", kind)
	}
	if err != nil {
		return nil, err
	}
	var n uint32
	if err := binary.Read(r, binary.BigEndian, &n); err != nil {
		return nil, err
	}
	if int64(n) > int64(r.Len()) {
		return nil, io.ErrUnexpectedEOF
	}
	a := make([]byte, n)
	_, err = io.ReadFull(r, a)
	return a, err
}
