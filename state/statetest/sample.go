package statetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// secret is the document _id in every sample token; no message may have it.
const secret = "jane.doe@example.com"

// token is the n-th sample token: one that a server could have sent, of an event
// on the document whose _id is secret.
func token(n int) resumetoken.Token { return bigToken(n, 0) }

// bigToken has an _id that is n bytes longer.
func bigToken(n, padding int) resumetoken.Token {
	b := []byte{0x82}
	b = binary.BigEndian.AppendUint32(b, uint32(1_700_000_000+n))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, 0x2B, 0x02, 0x2C, 0x01, 0x00, 0x29, 0x6E, 0x5A, 0x10, 0x04)
	b = append(b, "sixteen bytes id"...)
	b = append(b, "\x46\x3C_id\x00\x3C"...)
	b = fmt.Appendf(b, "%s/%d", secret, n)
	b = append(b, bytes.Repeat([]byte{'x'}, padding)...)
	b = append(b, 0x00, 0x00, 0x04)
	return mustToken(bson.D{{Key: "_data", Value: strings.ToUpper(hex.EncodeToString(b))}})
}

// typedToken has _typeBits, and a field of an unknown server version.
func typedToken() resumetoken.Token {
	return mustToken(bson.D{
		{Key: "_data", Value: "8265F49506000007662B022C01002B086E5A1004448A9E1A91724ECA875AAFA40773D05C46645F6964006465F49506238B3BBCC1CB20C00004"},
		{Key: "_typeBits", Value: bson.Binary{Data: []byte{0x82, 0x00, 0xFF}}},
		{Key: "_later", Value: bson.D{{Key: "n", Value: int32(1)}, {Key: "x", Value: 1.0}}},
	})
}

// binaryToken is as servers of version 3.6, and some foreign ones, make it.
func binaryToken() resumetoken.Token {
	return mustToken(bson.D{{Key: "_data", Value: bson.Binary{Data: []byte("\x82\x00\xff{\"not\": hex}\n")}}, {Key: "_kind", Value: int64(1)}})
}

func mustToken(doc bson.D) resumetoken.Token {
	raw, err := bson.Marshal(doc)
	if err == nil {
		var t resumetoken.Token
		if t, err = resumetoken.New(raw); err == nil {
			return t
		}
	}
	panic(fmt.Sprintf("statetest: a sample token is none: %v", err)) // a constant is wrong
}

// sample is the n-th checkpoint, different from every other in all fields. It has
// no sequence.
func sample(n int) state.Checkpoint {
	return state.Checkpoint{
		Token:       token(n),
		StartAfter:  n%2 == 1,
		ClusterTime: bson.Timestamp{T: uint32(1_700_000_000 + n), I: uint32(n%9 + 1)},
		SavedAt:     time.UnixMilli(1_700_000_000_123 + 1001*int64(n)).UTC(),
		Fingerprint: fmt.Sprintf("rs0/shop.orders/%d", n),
		Extra:       map[string]json.RawMessage{"n": json.RawMessage(fmt.Sprint(n))},
	}
}

// numbered is the n-th checkpoint with a sequence.
func numbered(n int, sequence uint64) state.Checkpoint {
	cp := sample(n)
	cp.Sequence = sequence
	return cp
}

// stored is what a store must return for cp, except SavedAt if it is zero.
func stored(cp state.Checkpoint, epoch uint64) state.Checkpoint {
	cp = cp.Clone()
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = epoch
	return cp
}

// differ names the fields in which got is not want, "" for none.
func differ(got, want state.Checkpoint) string {
	var fields []string
	add := func(same bool, format string, args ...any) {
		if !same {
			fields = append(fields, fmt.Sprintf(format, args...))
		}
	}
	add(got.Token == want.Token, "Token is %v, want %v (they are not the same bytes)", got.Token, want.Token)
	add(got.StartAfter == want.StartAfter, "StartAfter is %t, want %t", got.StartAfter, want.StartAfter)
	add(got.ClusterTime == want.ClusterTime, "ClusterTime is %v, want %v", got.ClusterTime, want.ClusterTime)
	add(got.SavedAt.Equal(want.SavedAt), "SavedAt is %v, want %v", got.SavedAt, want.SavedAt)
	add(got.Sequence == want.Sequence, "Sequence is %d, want %d", got.Sequence, want.Sequence)
	add(got.Fingerprint == want.Fingerprint, "Fingerprint is %q, want %q", got.Fingerprint, want.Fingerprint)
	add(got.Epoch == want.Epoch, "Epoch is %d, want %d", got.Epoch, want.Epoch)
	add(sameExtra(got.Extra, want.Extra), "Extra is %s, want %s", got.Extra, want.Extra)
	return strings.Join(fields, "; ")
}

// sameExtra compares as Checkpoint.Equal does, which ignores white space.
func sameExtra(a, b map[string]json.RawMessage) bool {
	return state.Checkpoint{Extra: a}.Equal(state.Checkpoint{Extra: b})
}

// leak tells what of a sample token's contents stands in text, "" for nothing.
func leak(text string) string {
	low, hexed := strings.ToLower(text), hex.EncodeToString([]byte(secret))
	switch {
	case strings.Contains(low, secret):
		return "the document's _id"
	case strings.Contains(low, hexed):
		return "the token's hexadecimal text"
	}
	for _, plain := range []string{secret, strings.ToUpper(hexed)} {
		for skip := range 3 { // wherever it stands in what was encoded
			if strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(plain)[skip:skip+12])) {
				return "the token in base64"
			}
		}
	}
	return ""
}

// sentinels are the errors of the contract, and those of a context.
var sentinels = []error{
	state.ErrNotFound, state.ErrCorrupt, state.ErrNewer, state.ErrExpired, state.ErrUnavailable, state.ErrRefused, state.ErrFenced,
	state.ErrStale, state.ErrLeaseHeld, state.ErrClosed, state.ErrInvalid, context.Canceled, context.DeadlineExceeded,
}

// class is the first sentinel that err is, nil for success, and err itself if it
// is none.
func class(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	return err
}

// save saves what must be taken.
func (t *trial) save(s state.Store, key string, cp state.Checkpoint) {
	if err := s.Save(t.ctx, key, cp); err != nil {
		t.fatalf("Save(%.60q, sequence %d): %v, want success", key, cp.Sequence, err)
	}
}

// wantLoad wants cp, saved under the given epoch, to be the checkpoint of key.
func (t *trial) wantLoad(s state.Store, key string, cp state.Checkpoint, epoch uint64) {
	got, err := s.Load(t.ctx, key)
	if err != nil {
		t.errorf("Load(%.60q): %v, want the checkpoint that was saved", key, err)
		return
	}
	if d := differ(got, stored(cp, epoch)); d != "" {
		t.errorf("Load(%.60q): %s", key, d)
	}
}

// wantNone wants key to have no checkpoint.
func (t *trial) wantNone(s state.Store, key string) {
	_, err := s.Load(t.ctx, key)
	t.want(err, state.ErrNotFound, "Load(%.60q)", key)
}

// want wants err to be the sentinel (nil: success).
func (t *trial) want(err, sentinel error, format string, args ...any) bool {
	if errors.Is(err, sentinel) {
		return true
	}
	wanted := "success"
	if sentinel != nil {
		wanted = fmt.Sprintf("%q", sentinel)
	}
	got := "success"
	if err != nil {
		got = fmt.Sprintf("%q", err)
	}
	t.errorf("%s: got %s, want %s", fmt.Sprintf(format, args...), got, wanted)
	return false
}

// wantHeld wants err to be a HeldError that names the owner.
func (t *trial) wantHeld(err error, owner string, format string, args ...any) {
	if !t.want(err, state.ErrLeaseHeld, format, args...) {
		return
	}
	what := fmt.Sprintf(format, args...)
	if h, ok := errors.AsType[*state.HeldError](err); !ok {
		t.errorf("%s: the error has no *state.HeldError in its chain, so nobody can see who holds the lease: %v", what, err)
	} else if h.Owner != owner {
		t.errorf("%s: the error names the owner %q, want %q", what, h.Owner, owner)
	}
}
