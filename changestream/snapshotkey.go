package changestream

import (
	"encoding/base64"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A sortKey is an _id with the bytes that the _id index sorts it by. It is immutable.
type sortKey struct {
	value bson.RawValue
	index string
}

func newSortKey(v bson.RawValue) (*sortKey, error) {
	index, err := resumetoken.KeyString(v)
	if err != nil {
		return nil, err
	}
	return &sortKey{value: bson.RawValue{Type: v.Type, Value: append([]byte(nil), v.Value...)}, index: string(index)}, nil
}

// isMax reports whether the key is MaxKey, the last one of an index.
func (k *sortKey) isMax() bool { return k != nil && k.value.Type == bson.TypeMaxKey }

// MarshalText writes the value as BSON in base64: Extended JSON would lose the bytes
// that are no UTF-8, and some of the numbers.
func (k *sortKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, append([]byte{byte(k.value.Type)}, k.value.Value...)), nil
}

func (k *sortKey) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || len(raw) == 0 {
		return errors.New("a key is not valid base64")
	}
	read, err := newSortKey(bson.RawValue{Type: bson.Type(raw[0]), Value: raw[1:]})
	if err == nil {
		*k = *read
	}
	return err
}

// A keyRange is a part of a collection that is being copied: the _ids from the lower
// bound up to, not including, the upper one. It is immutable.
type keyRange struct {
	Lower  *sortKey `json:"lower,omitempty"`  // nil: from the first
	Upper  *sortKey `json:"upper,omitempty"`  // nil: to the last
	Cursor *sortKey `json:"cursor,omitempty"` // the last _id that was copied; nil: none was
}

// from is where the range is to be read from, nil for its collection's beginning.
func (r *keyRange) from() *sortKey {
	if r.Cursor != nil {
		return r.Cursor
	}
	return r.Lower
}

// has reports whether a key belongs to the range.
func (r *keyRange) has(index string) bool {
	return (r.Lower == nil || r.Lower.index <= index) && (r.Upper == nil || index < r.Upper.index)
}

// copied reports whether a key of the range is copied.
func (r *keyRange) copied(index string) bool {
	return r.Cursor != nil && index <= r.Cursor.index
}
