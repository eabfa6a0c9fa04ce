package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Version is the version of the form that [Record.AppendJSON] writes.
const Version = 1

// The names of [Status] in the stored form. "saved" is omitted; "expired" is a
// saved checkpoint without its token.
const (
	statusNever   = "never"
	statusSaved   = "saved"
	statusCleared = "cleared"
	statusExpired = "expired"
)

// AppendJSON appends the record to dst as one line of JSON, without a newline, for
// [Parse]:
//
//	{"version":1,"status":"cleared","token":{…},"startAfter":true,"clusterTime":{"t":1794000000,"i":3},
//	"sequence":18204,"fingerprint":"…","extra":{…},"lastSequence":18204,"epoch":7,"nonce":"…","owner":"…",
//	"leaseUntil":"…","savedEpoch":6,"savedAt":"2026-11-23T00:46:01.124Z", …the fields in Unknown, by name}
//
// The order is fixed, and the line begins with {"version":1 so that a store can
// insert fields of its own. Fields that are zero are omitted, and so are
// lastSequence if it equals sequence, savedEpoch (the checkpoint's Epoch) if it
// equals epoch, and the status of a checkpoint that has not expired. The token is
// written as by [resumetoken.Token.ExtJSON].
//
// The documents in Extra and Unknown keep everything except white space at their
// ends, and line breaks, which become spaces.
//
// AppendJSON returns dst unchanged and an [state.ErrInvalid] if the record holds what
// the form can't: text that isn't UTF-8, a document that isn't JSON, a checkpoint
// with a status other than Saved, a sequence above [state.MaxSequence], a year with
// more than four digits.
func (r Record) AppendJSON(dst []byte) ([]byte, error) {
	if err := r.checkForm(); err != nil {
		return dst, err
	}
	b := append(dst, `{"version":1`...)
	if s := r.statusName(); s != statusSaved {
		b = appendText(b, `,"status":`, s)
	}
	b, err := appendCheckpoint(b, &r.Checkpoint)
	if err != nil {
		return dst, err
	}
	if r.LastSequence != r.Checkpoint.Sequence {
		b = appendUint(b, `,"lastSequence":`, r.LastSequence)
	}
	if r.Epoch != 0 {
		b = appendUint(b, `,"epoch":`, r.Epoch)
	}
	b = appendText(b, `,"nonce":`, r.Nonce)
	b = appendText(b, `,"owner":`, r.Owner)
	b = appendTime(b, `,"leaseUntil":`, r.LeaseUntil)
	if r.Status == Saved && r.Checkpoint.Epoch != r.Epoch {
		b = appendUint(b, `,"savedEpoch":`, r.Checkpoint.Epoch)
	}
	b = appendTime(b, `,"savedAt":`, r.Checkpoint.SavedAt)
	for _, name := range sortedNames(r.Unknown) {
		b = appendDoc(appendName(b, name), r.Unknown[name])
	}
	return append(b, '}'), nil
}

// appendCheckpoint appends the checkpoint except for its epoch and time, which are
// among the fields of the record.
func appendCheckpoint(b []byte, c *state.Checkpoint) ([]byte, error) {
	if !c.Token.IsZero() {
		var err error
		if b, err = c.Token.AppendExtJSON(append(b, `,"token":`...)); err != nil {
			return nil, err
		}
	}
	if c.StartAfter {
		b = append(b, `,"startAfter":true`...)
	}
	if c.ClusterTime != (bson.Timestamp{}) {
		b = append(b, `,"clusterTime":{"t":`...)
		b = strconv.AppendUint(b, uint64(c.ClusterTime.T), 10)
		b = append(b, `,"i":`...)
		b = strconv.AppendUint(b, uint64(c.ClusterTime.I), 10)
		b = append(b, '}')
	}
	if c.Sequence != 0 {
		b = appendUint(b, `,"sequence":`, c.Sequence)
	}
	b = appendText(b, `,"fingerprint":`, c.Fingerprint)
	for i, name := range sortedNames(c.Extra) {
		if i == 0 {
			b = append(b, `,"extra":{`...)
		} else {
			b = append(b, ',')
		}
		b = appendDoc(append(appendQuoted(b, name), ':'), c.Extra[name])
	}
	if len(c.Extra) > 0 {
		b = append(b, '}')
	}
	return b, nil
}

func (r *Record) statusName() string {
	switch {
	case r.Status == Cleared:
		return statusCleared
	case r.Status == Never:
		return statusNever
	case r.Checkpoint.Token.IsZero():
		return statusExpired
	}
	return statusSaved
}

// checkForm returns an ErrInvalid for what the stored form can't represent.
func (r *Record) checkForm() error {
	c := &r.Checkpoint
	switch {
	case r.Status > Cleared:
		return fmt.Errorf("%w: the record's status is %d", state.ErrInvalid, r.Status)
	case r.Status != Saved && !isZero(c):
		return fmt.Errorf("%w: the record has a checkpoint and the status %q", state.ErrInvalid, r.statusName())
	case c.Sequence > state.MaxSequence || r.LastSequence > state.MaxSequence:
		return fmt.Errorf("%w: a sequence is above the maximum, %d", state.ErrInvalid, uint64(state.MaxSequence))
	case !utf8.ValidString(c.Fingerprint) || !utf8.ValidString(r.Nonce) || !utf8.ValidString(r.Owner):
		return fmt.Errorf("%w: fingerprint, nonce or owner is not UTF-8", state.ErrInvalid)
	case !writableTime(c.SavedAt) || !writableTime(r.LeaseUntil):
		return fmt.Errorf("%w: a time is not in the years 0 to 9999", state.ErrInvalid)
	}
	for name, doc := range c.Extra {
		if err := checkDoc("Extra", name, doc); err != nil {
			return err
		}
	}
	for name, doc := range r.Unknown {
		if _, known := recordFields[name]; known {
			return fmt.Errorf("%w: Unknown[%q] is the name of a known field", state.ErrInvalid, name)
		}
		if err := checkDoc("Unknown", name, doc); err != nil {
			return err
		}
	}
	return nil
}

func isZero(c *state.Checkpoint) bool {
	return c.Token.IsZero() && !c.StartAfter && c.ClusterTime == (bson.Timestamp{}) && c.SavedAt.IsZero() &&
		c.Sequence == 0 && c.Fingerprint == "" && c.Epoch == 0 && len(c.Extra) == 0
}

func writableTime(t time.Time) bool {
	y := t.UTC().Year()
	return y >= 0 && y <= 9999
}

func sortedNames(m map[string]json.RawMessage) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func appendName(b []byte, name string) []byte {
	return append(appendQuoted(append(b, ','), name), ':')
}

// The functions below take a field as it begins: ,"name":

func appendUint(b []byte, field string, n uint64) []byte {
	return strconv.AppendUint(append(b, field...), n, 10)
}

func appendText(b []byte, field, text string) []byte {
	if text == "" {
		return b
	}
	return appendQuoted(append(b, field...), text)
}

// appendTime appends t, of a year from 0 to 9999, as RFC 3339: with milliseconds,
// the precision of stores, or with nanoseconds if t has them.
func appendTime(b []byte, field string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	form := [...]byte{'"', 0, 0, 0, 0, '-', 0, 0, '-', 0, 0, 'T', 0, 0, ':', 0, 0, ':', 0, 0, '.', 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, part := range [...]struct{ v, from, to int }{{year, 1, 5}, {int(month), 6, 8}, {day, 9, 11}, {hour, 12, 14}, {minute, 15, 17}, {second, 18, 20}, {t.Nanosecond(), 21, 30}} {
		for v, i := part.v, part.to-1; i >= part.from; i-- {
			form[i] = byte('0' + v%10)
			v /= 10
		}
	}
	n := len(form)
	if t.Nanosecond()%int(time.Millisecond) == 0 {
		n -= len("000000")
	}
	return append(append(append(b, field...), form[:n]...), `Z"`...)
}

// appendDoc appends a document that checkDoc has accepted. A line break in JSON can
// only be white space.
func appendDoc(b []byte, doc json.RawMessage) []byte {
	from := len(b)
	b = append(b, bytes.Trim(doc, " \t\r\n")...)
	for i, c := range b[from:] {
		if c == '\n' || c == '\r' {
			b[from+i] = ' '
		}
	}
	return b
}

// appendQuoted appends s, which is UTF-8, as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
