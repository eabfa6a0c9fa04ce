package filestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// # The file, to the byte
//
// A file has two slots of equal length, a multiple of 4,096 bytes, and nothing else:
// the length of a slot is half that of the file. A slot is one line: a JSON object
// that begins at its first byte, spaces, and a line feed as its last byte.
//
//	{"version":1,"generation":36408,"key":"shop", … ,"checksum":"crc32c:11d0aa42@36408"}
//
// The object begins with version, generation and key, in this order, continues with
// the other fields of the record, and ends with checksum. There is no optional white
// space.
//
//   - generation is one more with every slot written to the key's file. It alone
//     decides which slot is in force: the greater one. (Sequences may start again,
//     and not every checkpoint has one.)
//   - key is the key. The file's name is made of it, but not always enough to have it
//     back.
//   - checksum is that of every byte of the line before `,"checksum":"`, as eight
//     small hexadecimal digits of CRC-32C (Castagnoli, the one of iSCSI and ext4). After
//     the @ the generation is repeated.
//
// The generation is at both ends to distinguish a torn write from an edit. The disk
// writes sectors of 512 bytes or more, each whole or not at all. A line of at most
// two sectors whose ends agree on the generation can't be torn: if it doesn't
// match its checksum, it was edited.

const (
	slotUnit = 4096     // slots are a multiple of it: no page is ever shared by two
	maxSlot  = 64 << 20 // a greater file is not ours, and not worth reading
	sector   = 512

	// Every version of the format will have the version and both copies of the
	// generation where this one has them.
	lineHead = `{"version":`
	lineTail = `,"checksum":"crc32c:`
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A mark identifies what was written into a slot without comparing all of it.
type mark struct {
	generation uint64
	sum        uint32
}

// appendLine appends the line of a record, without spaces and line feed. The key is
// what quote made of it.
func appendLine(dst []byte, generation uint64, quotedKey string, rec *record.Record) ([]byte, mark, error) {
	const version = `{"version":1`
	start := len(dst)
	text, err := rec.AppendJSON(dst)
	if err != nil {
		return dst, mark{}, err
	}
	if !bytes.HasPrefix(text[start:], []byte(version)) {
		return dst, mark{}, errors.New("filestore: record.Record.AppendJSON doesn't begin with its version")
	}
	head := make([]byte, 0, 64+len(quotedKey))
	head = strconv.AppendUint(append(head, `,"generation":`...), generation, 10)
	head = append(append(head, `,"key":`...), quotedKey...)
	text = insert(text[:len(text)-1], start+len(version), head)

	m := mark{generation, crc32.Checksum(text[start:], castagnoli)}
	text = append(text, lineTail...)
	text = fmt.Appendf(text, "%08x@%d\"}", m.sum, generation)
	return text, m, nil
}

// quote makes a key a JSON string, "<", ">" and "&" as they are.
func quote(key string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(key) // a string into memory: there is nothing to fail
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// insert is slices.Insert, which would grow the array to the exact length.
func insert(b []byte, at int, what []byte) []byte {
	n := len(b)
	b = append(b, what...)
	copy(b[at+len(what):], b[at:n])
	copy(b[at:], what)
	return b
}

// slotLen is the length of the slots of a file in which a line of n bytes is to be
// written, and lines a little longer too, so that the file needn't grow at the next
// save already.
func slotLen(n int) (int, error) {
	if n+1 > maxSlot {
		return 0, fmt.Errorf("%w: the record has %d bytes; the maximum is %d", state.ErrInvalid, n, maxSlot-1)
	}
	want := min(n+n/4+1, maxSlot)
	return (want + slotUnit - 1) / slotUnit * slotUnit, nil
}

// pad fills a line up to a slot.
func pad(line []byte, slot int) []byte {
	n := len(line)
	if cap(line) < slot {
		line = append(make([]byte, 0, slot), line...)
	}
	line = line[:slot]
	for rest := line[n : slot-1]; len(rest) > 0; {
		rest = rest[copy(rest, spaces):]
	}
	line[slot-1] = '\n'
	return line
}

var spaces = strings.Repeat(" ", slotUnit)

// trimSpaces is bytes.TrimRight of spaces, of which there are thousands.
func trimSpaces(b []byte) []byte {
	const block = 256
	for len(b) >= block && string(b[len(b)-block:]) == spaces[:block] {
		b = b[:len(b)-block]
	}
	return bytes.TrimRight(b, " ")
}

// A slot is one half of a file.
type slot struct {
	mark mark
	// err is nil if the slot is whole. Then it may still be of a newer version, or
	// of another key: parse tells.
	err  error
	body []byte // the line, up to its checksum

	// edited means that a slot that isn't intact was edited, because no torn write
	// can look like it.
	edited bool
}

var (
	errNoLine   = errors.New("is not one line of JSON")
	errCutLine  = errors.New("ends in the middle of the line")
	errTorn     = errors.New("is a mix of two records")
	errChecksum = errors.New("doesn't match its checksum")
)

// readSlot looks for a line in half a file, and checks that it is as it was written.
func readSlot(text []byte) slot {
	line, ok := bytes.CutSuffix(text, []byte("\n"))
	line = trimSpaces(line)
	if !ok || !bytes.HasSuffix(line, []byte("}")) || !bytes.HasPrefix(line, []byte(lineHead)) {
		return slot{err: errNoLine}
	}
	if bytes.IndexByte(line, '\n') >= 0 {
		return slot{err: errNoLine}
	}
	head, ok := headGeneration(line)
	if !ok {
		return slot{err: errNoLine}
	}
	at := bytes.LastIndex(line, []byte(lineTail))
	if at < 0 {
		return slot{err: errCutLine}
	}
	sum, tail, ok := readTail(line[at+len(lineTail):])
	if !ok {
		return slot{err: errCutLine}
	}
	s := slot{mark: mark{head, sum}, body: line[:at]}
	switch {
	case head != tail:
		s.err = errTorn
	case crc32.Checksum(s.body, castagnoli) != sum:
		s.err, s.edited = errChecksum, len(line) <= 2*sector
	}
	return s
}

// headGeneration reads the generation at the beginning of a line.
func headGeneration(line []byte) (uint64, bool) {
	rest := line[len(lineHead):]
	_, rest, ok := bytes.Cut(rest, []byte(`,"generation":`))
	if !ok {
		return 0, false
	}
	digits, _, ok := bytes.Cut(rest, []byte(","))
	return readUint(digits, ok)
}

// readTail reads `11d0aa42@36408"}`.
func readTail(b []byte) (sum uint32, generation uint64, ok bool) {
	const hexLen = 8
	if len(b) < hexLen+1 || b[hexLen] != '@' || bytes.ContainsAny(b[:hexLen], "ABCDEF") {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(string(b[:hexLen]), 16, 32)
	digits, ok := bytes.CutSuffix(b[hexLen+1:], []byte(`"}`))
	generation, ok = readUint(digits, ok && err == nil)
	return uint32(n), generation, ok
}

func readUint(digits []byte, ok bool) (uint64, bool) {
	if !ok || len(digits) == 0 || len(digits) > 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil
}

// parse reads the record of a whole slot, and the key that it is of.
func (s *slot) parse() (record.Record, string, error) {
	rec, err := record.Parse(append(bytes.Clone(s.body), '}'))
	if err != nil {
		return record.Record{}, "", err
	}
	var key string
	if err := json.Unmarshal(rec.Unknown["key"], &key); err != nil {
		return record.Record{}, "", fmt.Errorf("%w: the field \"key\" is missing or not a string", state.ErrCorrupt)
	}
	delete(rec.Unknown, "generation")
	delete(rec.Unknown, "key")
	if len(rec.Unknown) == 0 {
		rec.Unknown = nil
	}
	return rec, key, nil
}
