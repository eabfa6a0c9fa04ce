package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Parse parses the form of [Record.AppendJSON], with or without white space around
// it. The record shares no memory with text.
//
// Anything but one JSON object, and a field that occurs twice, is missing or has the
// wrong type, is an [state.ErrCorrupt] that says what is wrong and where, without
// quoting the text. A version above [Version] is an [state.ErrNewer] that names it.
// Fields that this version doesn't know are kept in Record.Unknown.
func Parse(text []byte) (Record, error) {
	var few [16]field // most records have no more
	fields, err := parseObject(few[:0], text)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if err := checkVersion(fields); err != nil {
		return Record{}, err
	}
	p := recordParser{status: statusSaved, fields: fields}
	for _, f := range fields {
		if err := p.field(f); err != nil {
			return Record{}, fmt.Errorf("%w: the field %q %w", state.ErrCorrupt, string(f.name), err)
		}
	}
	if err := p.finish(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	return p.rec, nil
}

// checkVersion comes first, because a later version may change the form of any other
// field.
func checkVersion(fields []field) error {
	for _, f := range fields {
		if string(f.name) != "version" {
			continue
		}
		v, err := parseUint(f.value, math.MaxUint64)
		switch {
		case err != nil:
			return fmt.Errorf("%w: the field \"version\" %w", state.ErrCorrupt, err)
		case v == 0:
			return fmt.Errorf("%w: the field \"version\" is 0", state.ErrCorrupt)
		case v > Version:
			return fmt.Errorf("%w: version %d, and this program reads up to %d", state.ErrNewer, v, Version)
		}
		return nil
	}
	return fmt.Errorf("%w: the field \"version\" is missing", state.ErrCorrupt)
}

// A recordParser collects the fields of one record.
type recordParser struct {
	fields []field
	rec    Record
	status string
}

func (p *recordParser) has(name string) bool { return hasField(p.fields, name) }

func hasField(fields []field, name string) bool {
	for i := range fields {
		if string(fields[i].name) == name {
			return true
		}
	}
	return false
}

// recordFields are the names of the known fields of a record.
var recordFields = map[string]bool{
	"version": true, "status": true, "token": true, "startAfter": true, "clusterTime": true, "sequence": true, "fingerprint": true,
	"extra": true, "lastSequence": true, "epoch": true, "nonce": true, "owner": true, "leaseUntil": true, "savedEpoch": true, "savedAt": true,
}

func (p *recordParser) field(f field) error {
	r, c := &p.rec, &p.rec.Checkpoint
	switch string(f.name) {
	case "version": // see checkVersion
		return nil
	case "status":
		return parseText(&p.status, f.value)
	case "token":
		return parseToken(&c.Token, f.value)
	case "startAfter":
		return parseBool(&c.StartAfter, f.value)
	case "clusterTime":
		return p.clusterTime(f.value)
	case "sequence":
		return parseSequence(&c.Sequence, f.value)
	case "fingerprint":
		return parseText(&c.Fingerprint, f.value)
	case "extra":
		return p.extra(f.value)
	case "lastSequence":
		return parseSequence(&r.LastSequence, f.value)
	case "epoch":
		return parseEpoch(&r.Epoch, f.value)
	case "nonce":
		return parseText(&r.Nonce, f.value)
	case "owner":
		return parseText(&r.Owner, f.value)
	case "leaseUntil":
		return parseTime(&r.LeaseUntil, f.value)
	case "savedEpoch":
		return parseEpoch(&c.Epoch, f.value)
	case "savedAt":
		return parseTime(&c.SavedAt, f.value)
	}
	if p.rec.Unknown == nil {
		p.rec.Unknown = make(map[string]json.RawMessage)
	}
	p.rec.Unknown[string(f.name)] = bytes.Clone(f.value)
	return nil
}

func (p *recordParser) clusterTime(v []byte) error {
	if ct := &p.rec.Checkpoint.ClusterTime; plainTime(v, &ct.T, &ct.I) {
		return nil
	}
	fields, err := parseFields(v)
	if err != nil {
		return err
	}
	for _, f := range fields {
		n, err := parseUint(f.value, math.MaxUint32)
		switch {
		case err != nil:
			return err
		case string(f.name) == "t":
			p.rec.Checkpoint.ClusterTime.T = uint32(n)
		case string(f.name) == "i":
			p.rec.Checkpoint.ClusterTime.I = uint32(n)
		}
	}
	if len(fields) != 2 || !hasField(fields, "t") || !hasField(fields, "i") {
		return errors.New(`has other fields than "t" and "i"`)
	}
	return nil
}

// plainTime parses a cluster time exactly as it is written.
func plainTime(v []byte, t, i *uint32) bool {
	rest, begins := bytes.CutPrefix(v, []byte(`{"t":`))
	rest, ends := bytes.CutSuffix(rest, []byte("}"))
	first, second, two := bytes.Cut(rest, []byte(`,"i":`))
	if !begins || !ends || !two {
		return false
	}
	m, err := parseUint(first, math.MaxUint32)
	if err != nil {
		return false
	}
	n, err := parseUint(second, math.MaxUint32)
	if err != nil {
		return false
	}
	*t, *i = uint32(m), uint32(n)
	return true
}

func (p *recordParser) extra(v []byte) error {
	fields, err := parseFields(v)
	if err != nil || len(fields) == 0 {
		return err
	}
	p.rec.Checkpoint.Extra = make(map[string]json.RawMessage, len(fields))
	for _, f := range fields {
		p.rec.Checkpoint.Extra[string(f.name)] = bytes.Clone(f.value)
	}
	return nil
}

// finish fills in what was omitted because it follows from the other fields.
func (p *recordParser) finish() error {
	r, c := &p.rec, &p.rec.Checkpoint
	if !p.has("lastSequence") {
		r.LastSequence = c.Sequence
	}
	switch p.status {
	case statusSaved, statusExpired:
		r.Status = Saved
		if !p.has("savedEpoch") {
			c.Epoch = r.Epoch
		}
		if has := p.has("token"); has != (p.status == statusSaved) {
			return fmt.Errorf("the status is %q, and the field \"token\" is %s", p.status, present(has))
		}
		return nil
	case statusCleared:
		r.Status = Cleared
	case statusNever:
		r.Status = Never
	default:
		return fmt.Errorf("the field \"status\" is none of %q, %q, %q and %q", statusSaved, statusCleared, statusNever, statusExpired)
	}
	if !isZero(c) {
		return fmt.Errorf("the status is %q, and fields of a checkpoint are there", p.status)
	}
	return nil
}

func present(has bool) string {
	if has {
		return "there"
	}
	return "missing"
}

// The parsers of single values. Each takes one valid JSON value.

func parseUint(v []byte, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("is not a whole number from 0 to %d", most)
	}
	return n, nil
}

func parseSequence(to *uint64, v []byte) (err error) {
	*to, err = parseUint(v, state.MaxSequence)
	return err
}

func parseEpoch(to *uint64, v []byte) (err error) {
	*to, err = parseUint(v, math.MaxUint64)
	return err
}

func parseBool(to *bool, v []byte) error {
	*to = v[0] == 't'
	if v[0] != 't' && v[0] != 'f' {
		return errors.New("is not true or false")
	}
	return nil
}

func parseText(to *string, v []byte) error {
	if v[0] != '"' {
		return errors.New("is not a string")
	}
	s, err := unquote(v)
	*to = s
	return err
}

func parseTime(to *time.Time, v []byte) error {
	// time.Parse accepts what isn't RFC 3339: an hour of one digit, a decimal comma.
	const form = `"2006-01-02T15:04:05Z"`
	if len(v) < len(form) || v[14] != ':' || v[len(v)-2] != 'Z' || bytes.ContainsRune(v, ',') {
		return errors.New("is not a time like 2006-01-02T15:04:05.000Z")
	}
	t, err := time.Parse(time.RFC3339Nano, string(v[1:len(v)-1]))
	if err != nil {
		return errors.New("is not a time like 2006-01-02T15:04:05.000Z")
	}
	*to = t.UTC()
	return nil
}

func parseToken(to *resumetoken.Token, v []byte) error {
	t, err := resumetoken.Parse(v)
	if err != nil {
		return fmt.Errorf("is damaged: %w", err)
	}
	*to = t
	return nil
}

// A field is one member of a JSON object: its name, unquoted, and its value as it is
// in the text.
type field struct {
	name, value []byte
}

// parseObject splits a text that must be one JSON object in UTF-8.
func parseObject(dst []field, text []byte) ([]field, error) {
	text = bytes.Trim(text, " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, errors.New("it is empty")
	case !json.Valid(text):
		return nil, errors.New(syntaxError(text))
	case text[0] != '{':
		return nil, errors.New("it is not a JSON object")
	case !utf8.Valid(text):
		return nil, errors.New("it is not UTF-8")
	}
	return splitFields(dst, text)
}

// parseFields splits a value, which is valid JSON, into its fields.
func parseFields(v []byte) ([]field, error) {
	if v[0] != '{' {
		return nil, errors.New("is not an object")
	}
	return splitFields(make([]field, 0, 4), v)
}

// syntaxError says where text is no longer JSON. The decoder's own message would
// quote it.
func syntaxError(text []byte) string {
	var syntax *json.SyntaxError
	var v json.RawMessage
	if err := json.Unmarshal(text, &v); !errors.As(err, &syntax) {
		return "it is not JSON"
	}
	if syntax.Error() == "unexpected end of JSON input" {
		return fmt.Sprintf("it is cut short, after %d bytes", len(text))
	}
	return fmt.Sprintf("it is not JSON at byte %d", syntax.Offset)
}

// splitFields returns the fields of a valid JSON object, and refuses a name that
// occurs twice. Since the object is valid, no index can run past its end.
func splitFields(fields []field, obj []byte) ([]field, error) {
	var names map[string]bool
	for i := skipSpace(obj, 1); obj[i] != '}'; {
		end := valueEnd(obj, i)
		name, err := fieldName(obj[i:end])
		if err != nil {
			return nil, err
		}
		if names, err = noteName(names, fields, name); err != nil {
			return nil, err
		}
		i = skipSpace(obj, skipSpace(obj, end)+1) // over the colon
		end = valueEnd(obj, i)
		fields = append(fields, field{name, obj[i:end]})
		if i = skipSpace(obj, end); obj[i] == ',' {
			i = skipSpace(obj, i+1)
		}
	}
	return fields, nil
}

func fieldName(v []byte) ([]byte, error) {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	name, err := unquote(v)
	return []byte(name), err
}

// noteName refuses a name that fields have already. It makes a map of them only if
// there are many: a record has about ten.
func noteName(names map[string]bool, fields []field, name []byte) (map[string]bool, error) {
	twice := names[string(name)]
	if names == nil {
		twice = hasField(fields, string(name))
	}
	if twice {
		return names, fmt.Errorf("the field %q occurs twice", string(name))
	}
	if names == nil && len(fields) >= 16 {
		names = make(map[string]bool, 2*len(fields))
		for _, f := range fields {
			names[string(f.name)] = true
		}
	}
	if names != nil {
		names[string(name)] = true
	}
	return names, nil
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n' {
		i++
	}
	return i
}

// valueEnd returns the end of the value that begins at b[i].
func valueEnd(b []byte, i int) int {
	for depth := 0; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of a number or word, and of what encloses it
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
}

func unquote(v []byte) (string, error) {
	if !bytes.ContainsRune(v, '\\') {
		return string(v[1 : len(v)-1]), nil
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return "", errors.New("has a string that can't be decoded")
	}
	return s, nil
}
