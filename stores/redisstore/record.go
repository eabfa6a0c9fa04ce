package redisstore

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// version is that of the data in Redis, in the fence.
const version = 2

// A record in Redis is one line of JSON, as [record.Record.AppendJSON] writes it, and
// at its end a digest of what is before. That detects accidental changes; SHA-1 is what
// Redis's scripts have, which read version 1.
const (
	digestStart = `,"sha1":"`
	digestLen   = len(digestStart) + 2*sha1.Size + len(`"}`)
)

// encode returns the record of a checkpoint, and its length up to the end of the
// token, which distinguishes a repeated save from another one with the same sequence.
func encode(cp state.Checkpoint, now time.Time) (text []byte, token int, err error) {
	if cp.SavedAt.IsZero() {
		cp.SavedAt = now
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = 0 // the fence has it
	rec := record.Record{Status: record.Saved, Checkpoint: cp, LastSequence: cp.Sequence}
	b, err := rec.AppendJSON(make([]byte, 0, sizeOf(&cp)))
	if err != nil {
		return nil, 0, err
	}
	if token, err = tokenEnd(cp.Token); err != nil {
		return nil, 0, err
	}
	b = b[:len(b)-len("}")]
	sum := sha1.Sum(b)
	b = hex.AppendEncode(append(b, digestStart...), sum[:])
	return append(b, `"}`...), token, nil
}

// tokenEnd returns the length of a record up to the end of its token.
func tokenEnd(token interface {
	AppendExtJSON([]byte) ([]byte, error)
}) (int, error) {
	b, err := token.AppendExtJSON(nil)
	return len(`{"version":1,"token":`) + len(b), err
}

// sizeOf estimates the length of the record of a checkpoint.
func sizeOf(cp *state.Checkpoint) int {
	n := 400 + 2*cp.Token.Len() + len(cp.Fingerprint)
	for name, doc := range cp.Extra {
		n += len(name) + len(doc)
	}
	return n
}

// decode parses a record that was saved under an epoch.
func decode(text string, epoch uint64) (state.Checkpoint, error) {
	at := len(text) - digestLen
	if at < 0 || !strings.HasPrefix(text[at:], digestStart) {
		return state.Checkpoint{}, errChanged
	}
	if sum := sha1.Sum([]byte(text[:at])); text[at+len(digestStart):] != hex.EncodeToString(sum[:])+`"}` {
		return state.Checkpoint{}, errChanged
	}
	rec, err := record.Parse([]byte(text[:at] + "}"))
	if err != nil {
		return state.Checkpoint{}, err
	}
	if rec.Status != record.Saved || rec.Checkpoint.Token.IsZero() {
		return state.Checkpoint{}, fmt.Errorf("%w: it has no resume token", state.ErrCorrupt)
	}
	rec.Checkpoint.Epoch = epoch
	return rec.Checkpoint, nil
}

var errChanged = fmt.Errorf("%w: another program has changed it in Redis", state.ErrCorrupt)
