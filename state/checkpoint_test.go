package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

const plainHex = "8260EC7417000000012B022C0100296E5A10044B4A1B0E3FA2439BA6F0D61DDD6805FB46645F6964006460EC741724019F022F0786530004"

// token has plainHex and the fields, given as names and values.
func token(t testing.TB, fields ...any) resumetoken.Token {
	t.Helper()
	doc := bson.D{{Key: "_data", Value: plainHex}}
	for i := 0; i < len(fields); i += 2 {
		doc = append(doc, bson.E{Key: fields[i].(string), Value: fields[i+1]})
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := resumetoken.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// full is a checkpoint that has every field.
func full(t testing.TB) state.Checkpoint {
	return state.Checkpoint{
		Token:       token(t),
		StartAfter:  true,
		ClusterTime: bson.Timestamp{T: 1794000000, I: 3},
		SavedAt:     time.Date(2026, 11, 23, 0, 46, 1, 124e6, time.UTC),
		Sequence:    18204,
		Fingerprint: "rs0/shop.orders",
		Epoch:       6,
		Extra:       map[string]json.RawMessage{"gap": json.RawMessage(`{"from":1}`), "a": json.RawMessage(`[1, 2]`)},
	}
}

func TestAt(t *testing.T) {
	raw := token(t, "_typeBits", bson.Binary{Data: []byte{1}}).Raw()
	cp, err := state.At(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw[8] ^= 1
	if cp.Token != token(t, "_typeBits", bson.Binary{Data: []byte{1}}) {
		t.Error("the token shares the caller's memory, or is not whole")
	}
	cp, err = state.At(token(t).Raw())
	if want := (bson.Timestamp{T: 0x60EC7417, I: 1}); err != nil || cp.ClusterTime != want || cp.StartAfter {
		t.Errorf("the cluster time is %v and StartAfter %v, want %v and false", cp.ClusterTime, cp.StartAfter, want)
	}
	invalidate := strings.Replace(plainHex, "0100296E5A", "0100296F5A", 1)
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: invalidate}})
	if err != nil {
		t.Fatal(err)
	}
	if cp, err := state.At(doc); err != nil || !cp.StartAfter {
		t.Errorf("the token of an invalidate event: %+v, %v", cp, err)
	}
	foreign := token(t, "_kind", 1).Raw()
	foreign[4+1+6+4] = 'z'
	if cp, err := state.At(foreign); err != nil || cp.Token.IsZero() || cp.ClusterTime != (bson.Timestamp{}) {
		t.Errorf("a token that only its server reads: %+v, %v", cp, err)
	}
	for _, bad := range []bson.Raw{nil, {}, {5, 0, 0, 0, 0}} {
		if _, err := state.At(bad); !errors.Is(err, resumetoken.ErrInvalid) {
			t.Errorf("At(%v): %v", bad, err)
		}
	}
}

func TestCheckpointEqual(t *testing.T) {
	base := full(t)
	same := base.Clone()
	same.SavedAt = base.SavedAt.In(time.FixedZone("", 3600))
	same.Extra["a"] = json.RawMessage(" [1,\n2]")
	if !base.Equal(same) {
		t.Error("they differ by zone and white space, and are not equal")
	}
	for name, change := range map[string]func(*state.Checkpoint){
		"Token":       func(c *state.Checkpoint) { c.Token = token(t, "x", 1) },
		"StartAfter":  func(c *state.Checkpoint) { c.StartAfter = false },
		"ClusterTime": func(c *state.Checkpoint) { c.ClusterTime.I++ },
		"SavedAt":     func(c *state.Checkpoint) { c.SavedAt = c.SavedAt.Add(1) },
		"Sequence":    func(c *state.Checkpoint) { c.Sequence++ },
		"Fingerprint": func(c *state.Checkpoint) { c.Fingerprint += "x" },
		"Epoch":       func(c *state.Checkpoint) { c.Epoch++ },
		"Extra":       func(c *state.Checkpoint) { c.Extra["a"] = json.RawMessage(`[1, 3]`) },
		"Extra name":  func(c *state.Checkpoint) { c.Extra["b"] = nil },
		"no Extra":    func(c *state.Checkpoint) { c.Extra = nil },
	} {
		other := base.Clone()
		change(&other)
		if base.Equal(other) || other.Equal(base) {
			t.Errorf("they differ in %s, and are equal", name)
		}
	}
}

func TestCheckpointClone(t *testing.T) {
	base := full(t)
	clone := base.Clone()
	base.Extra["a"][0] = 'x'
	delete(base.Extra, "gap")
	if string(clone.Extra["a"]) != "[1, 2]" || len(clone.Extra) != 2 {
		t.Errorf("the clone shares memory: %s", clone.Extra)
	}
	if (state.Checkpoint{}).Clone().Extra != nil {
		t.Error("a clone has Extra where there was none")
	}
}

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "a:b", "../x", "\x00", " ", "ключ", strings.Repeat("x", state.MaxKeyLen)} {
		if err := state.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q): %v", key, err)
		}
	}
	for key, want := range map[string]string{
		"":                                     "is empty",
		strings.Repeat("x", state.MaxKeyLen+1): "1025 bytes",
		"a\xffb":                               "not UTF-8",
	} {
		if err := state.CheckKey(key); !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckKey(%q): %v, want an ErrInvalid with %q", key, err, want)
		}
	}
}

func TestError(t *testing.T) {
	vendor := &state.HeldError{Owner: "host/1", Until: time.Date(2026, 11, 23, 0, 46, 0, 999999, time.UTC)}
	err := error(&state.Error{"acquire", "redisstore", "shop", fmt.Errorf("%w: %w", state.ErrUnavailable, vendor)})
	want := `redisstore: acquire "shop": the store is unavailable: the lease is held by "host/1" until 2026-11-23T00:46:00.000Z`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var held *state.HeldError
	if !errors.Is(err, state.ErrUnavailable) || !errors.Is(err, state.ErrLeaseHeld) || !errors.As(err, &held) || held != vendor {
		t.Error("the chain is broken")
	}
	var e *state.Error
	if !errors.As(err, &e) || !e.Retryable() {
		t.Error("unavailable, and not retryable")
	}
	for _, final := range []error{state.ErrNotFound, state.ErrCorrupt, state.ErrFenced, state.ErrStale, state.ErrLeaseHeld, state.ErrClosed, state.ErrInvalid} {
		if (&state.Error{Err: final}).Retryable() {
			t.Errorf("%v is retryable", final)
		}
	}
	if got := (&state.Error{"ping", "memstore", "", state.ErrClosed}).Error(); got != "memstore: ping: the store is closed" {
		t.Errorf("got %s", got)
	}
	if got := (&state.HeldError{Owner: "x"}).Error(); got != `the lease is held by "x"` {
		t.Errorf("got %s", got)
	}
	// Keys are shown short, and can't break a line or a character.
	long := (&state.Error{"save", "s", "\n" + strings.Repeat("ж", 500), state.ErrClosed}).Error()
	if len(long) > 150 || strings.ContainsAny(long, "\n\ufffd") || !strings.Contains(long, "…") {
		t.Errorf("got %s", long)
	}
}
