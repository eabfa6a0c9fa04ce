package redisstore

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A record in Redis is the SHA-1 of the rest, which detects accidental changes (SHA-1 is
// what the scripts have), the last sequence of the key, the epoch that it was saved
// under, and the document, which is empty if there is no checkpoint:
//
//	8f3a…11d0 18204 7 {"version":1,"token":{…},…}
const sumLen = 2 * sha1.Size

// noSum stands for the digest and the space after it.
var noSum = strings.Repeat(" ", sumLen+1)

// A recordText is the record that a save writes.
type recordText struct {
	text     []byte // complete, unless the head is unknown
	document int    // where it begins in text
}

// MarshalBinary is for go-redis. Thanks to it most saves of a batch need no memory of
// their own.
func (r *recordText) MarshalBinary() ([]byte, error) { return r.text, nil }

// encode returns the record of a checkpoint, with what the store fills in, in the
// memory of dst, which is empty.
func encode(dst []byte, cp state.Checkpoint, last, epoch uint64, now time.Time) (recordText, error) {
	if cp.SavedAt.IsZero() {
		cp.SavedAt = now
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = 0 // it stands in the head
	b := append(dst, noSum...)
	b = append(strconv.AppendUint(b, last, 10), ' ')
	b = append(strconv.AppendUint(b, epoch, 10), ' ')
	from := len(b)
	rec := record.Record{Status: record.Saved, Checkpoint: cp, LastSequence: cp.Sequence}
	b, err := rec.AppendJSON(b)
	if err != nil {
		return recordText{}, err
	}
	sum := sha1.Sum(b[sumLen+1:])
	hex.Encode(b, sum[:])
	return recordText{b, from}, nil
}

// tokenEnd returns the length of the document of a checkpoint up to the end of its
// token, which distinguishes a repeated save from another one with the same sequence.
func tokenEnd(cp state.Checkpoint) (int, error) {
	alone := record.Record{Status: record.Saved, Checkpoint: state.Checkpoint{Token: cp.Token}}
	b, err := alone.AppendJSON(nil)
	return len(b) - len("}"), err
}

// decode parses a record.
func decode(text string) (state.Checkpoint, error) {
	sum, rest, _ := strings.Cut(text, " ")
	if d := sha1.Sum([]byte(rest)); sum != hex.EncodeToString(d[:]) {
		return state.Checkpoint{}, fmt.Errorf("%w: another program has changed it in Redis", state.ErrCorrupt)
	}
	_, rest, _ = strings.Cut(rest, " ")
	under, document, ok := strings.Cut(rest, " ")
	epoch, err := strconv.ParseUint(under, 10, 64)
	if !ok || err != nil {
		return state.Checkpoint{}, fmt.Errorf("%w: its epoch is missing", state.ErrCorrupt)
	}
	if document == "" {
		return state.Checkpoint{}, state.ErrNotFound
	}
	rec, err := record.Parse([]byte(document))
	if err != nil {
		return state.Checkpoint{}, err
	}
	if rec.Status != record.Saved || rec.Checkpoint.Token.IsZero() {
		return state.Checkpoint{}, fmt.Errorf("%w: it has no resume token", state.ErrCorrupt)
	}
	rec.Checkpoint.Epoch = epoch
	return rec.Checkpoint, nil
}
