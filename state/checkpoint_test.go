package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

func TestAt(t *testing.T) {
	raw := token(t, "_typeBits", bson.Binary{Data: []byte{1}}).Raw()
	cp, err := At(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw[8] ^= 1
	if cp.Token != token(t, "_typeBits", bson.Binary{Data: []byte{1}}) {
		t.Error("the token shares the caller's memory, or is not whole")
	}
	cp, err = At(token(t).Raw())
	if want := (bson.Timestamp{T: 0x60EC7417, I: 1}); err != nil || cp.ClusterTime != want || cp.StartAfter {
		t.Errorf("the cluster time is %v and StartAfter %v, want %v and false", cp.ClusterTime, cp.StartAfter, want)
	}
	invalidate := strings.Replace(plainHex, "0100296E5A", "0100296F5A", 1)
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: invalidate}})
	if err != nil {
		t.Fatal(err)
	}
	if cp, err := At(doc); err != nil || !cp.StartAfter {
		t.Errorf("the token of an invalidate event: %+v, %v", cp, err)
	}
	foreign := token(t, "_kind", 1).Raw()
	foreign[4+1+6+4] = 'z'
	if cp, err := At(foreign); err != nil || cp.Token.IsZero() || cp.ClusterTime != (bson.Timestamp{}) {
		t.Errorf("a token that only its server reads: %+v, %v", cp, err)
	}
	for _, bad := range []bson.Raw{nil, {}, {5, 0, 0, 0, 0}} {
		if _, err := At(bad); !errors.Is(err, resumetoken.ErrInvalid) {
			t.Errorf("At(%v): %v", bad, err)
		}
	}
}

func TestCheckpointEqual(t *testing.T) {
	base := full(t).Checkpoint
	same := base.Clone()
	same.SavedAt = base.SavedAt.In(time.FixedZone("", 3600))
	same.Extra["a"] = json.RawMessage(" [1,\n2]")
	if !base.Equal(same) {
		t.Error("they differ by zone and white space, and are not equal")
	}
	for name, change := range map[string]func(*Checkpoint){
		"Token":       func(c *Checkpoint) { c.Token = token(t, "x", 1) },
		"StartAfter":  func(c *Checkpoint) { c.StartAfter = false },
		"ClusterTime": func(c *Checkpoint) { c.ClusterTime.I++ },
		"SavedAt":     func(c *Checkpoint) { c.SavedAt = c.SavedAt.Add(1) },
		"Sequence":    func(c *Checkpoint) { c.Sequence++ },
		"Fingerprint": func(c *Checkpoint) { c.Fingerprint += "x" },
		"Epoch":       func(c *Checkpoint) { c.Epoch++ },
		"Extra":       func(c *Checkpoint) { c.Extra["a"] = json.RawMessage(`[1, 3]`) },
		"Extra name":  func(c *Checkpoint) { c.Extra["b"] = nil },
		"no Extra":    func(c *Checkpoint) { c.Extra = nil },
	} {
		other := base.Clone()
		change(&other)
		if base.Equal(other) || other.Equal(base) {
			t.Errorf("they differ in %s, and are equal", name)
		}
	}
}

func TestCheckpointClone(t *testing.T) {
	base := full(t).Checkpoint
	clone := base.Clone()
	base.Extra["a"][0] = 'x'
	delete(base.Extra, "gap")
	if string(clone.Extra["a"]) != "[1, 2]" || len(clone.Extra) != 2 {
		t.Errorf("the clone shares memory: %s", clone.Extra)
	}
	if (Checkpoint{}).Clone().Extra != nil {
		t.Error("a clone has Extra where there was none")
	}
}

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "a:b", "../x", "\x00", " ", "ключ", strings.Repeat("x", MaxKeyLen)} {
		if err := CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q): %v", key, err)
		}
	}
	for key, want := range map[string]string{
		"":                               "is empty",
		strings.Repeat("x", MaxKeyLen+1): "1025 bytes",
		"a\xffb":                         "not UTF-8",
	} {
		if err := CheckKey(key); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckKey(%q): %v, want an ErrInvalid with %q", key, err, want)
		}
	}
}

func TestCheckSave(t *testing.T) {
	if err := CheckSave("k", full(t).Checkpoint); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Checkpoint){
		"no resume token":        func(c *Checkpoint) { c.Token = resumetoken.Token{} },
		"sequence 900719925":     func(c *Checkpoint) { c.Sequence = MaxSequence + 1 },
		"fingerprint is not":     func(c *Checkpoint) { c.Fingerprint = "\xff" },
		"a name in Extra":        func(c *Checkpoint) { c.Extra["\xff"] = json.RawMessage("1") },
		`Extra["x"] is not JSON`: func(c *Checkpoint) { c.Extra["x"] = json.RawMessage("{") },
		`Extra["y"] is not JSON`: func(c *Checkpoint) { c.Extra["y"] = json.RawMessage("\"\xff\"") },
		`Extra["z"] is not JSON`: func(c *Checkpoint) { c.Extra["z"] = nil },
	} {
		cp := full(t).Checkpoint
		change(&cp)
		if err := CheckSave("k", cp); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an ErrInvalid with %q", err, want)
		}
	}
	if err := CheckSave("", full(t).Checkpoint); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty key: %v", err)
	}
}

func TestError(t *testing.T) {
	vendor := &HeldError{Owner: "host/1", Until: t0}
	err := error(&Error{"acquire", "redisstore", "shop", fmt.Errorf("%w: %w", ErrUnavailable, vendor)})
	want := `redisstore: acquire "shop": the store is unavailable: the lease is held by "host/1" until 2026-11-23T00:46:00.000Z`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var held *HeldError
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrLeaseHeld) || !errors.As(err, &held) || held != vendor {
		t.Error("the chain is broken")
	}
	var e *Error
	if !errors.As(err, &e) || !e.Retryable() {
		t.Error("unavailable, and not retryable")
	}
	for _, final := range []error{ErrNotFound, ErrCorrupt, ErrFenced, ErrStale, ErrLeaseHeld, ErrClosed, ErrInvalid} {
		if (&Error{Err: final}).Retryable() {
			t.Errorf("%v is retryable", final)
		}
	}
	if got := (&Error{"ping", "memstore", "", ErrClosed}).Error(); got != "memstore: ping: the store is closed" {
		t.Errorf("got %s", got)
	}
	if got := (&HeldError{Owner: "x"}).Error(); got != `the lease is held by "x"` {
		t.Errorf("got %s", got)
	}
	// Keys are shown short, and can't break a line or a character.
	long := (&Error{"save", "s", "\n" + strings.Repeat("ж", 500), ErrClosed}).Error()
	if len(long) > 150 || strings.ContainsAny(long, "\n\ufffd") || !strings.Contains(long, "…") {
		t.Errorf("got %s", long)
	}
}
