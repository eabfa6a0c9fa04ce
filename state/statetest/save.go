package statetest

import (
	"encoding/json"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

const refusedRule = "Save returns ErrInvalid, and changes nothing, for a key that CheckKey refuses, a checkpoint without a token, a sequence above MaxSequence, text that isn't UTF-8, and an Extra that isn't JSON."

var saveCases = []testCase{
	{"Save/Replaces", "Save makes cp the checkpoint of key.", saveReplaces},
	{"Save/Visible", "If it returns nil, the checkpoint is durable in the sense that the store's package documents.", saveVisible},
	{"Save/NoToken", refusedRule, saveNoToken},
	{"Save/SequenceTooBig", refusedRule, saveSequenceTooBig},
	{"Save/NotJSON", refusedRule, saveNotJSON},
	{"Save/NotUTF8", refusedRule, saveNotUTF8},
	{"Save/BadKeys", "CheckKey returns an ErrInvalid unless key is a valid key of a checkpoint: 1 to MaxKeyLen bytes of UTF-8.", saveBadKeys},
	{"Save/OtherKeysUntouched", "Keys are opaque: two keys that differ in any byte are different keys, in every store and on every file system.", saveOtherKeysUntouched},
}

func saveReplaces(t *trial) {
	s, key := t.store(), t.key("k")
	for n := 1; n <= 5; n++ {
		t.save(s, key, sample(n))
		t.wantLoad(s, key, sample(n), 0)
	}
}

func saveVisible(t *trial) {
	a, b, key := t.open(), t.open(), t.key("k")
	for n := 1; n <= 4; n += 2 {
		t.save(a, key, sample(n))
		t.wantLoad(b, key, sample(n), 0)
		t.save(b, key, sample(n+1))
		t.wantLoad(a, key, sample(n+1), 0)
	}
	if err := a.Clear(t.ctx, key); err != nil {
		t.errorf("Clear: %v", err)
	}
	t.wantNone(b, key)
}

// refused wants saves of bad to be refused, whether there is a checkpoint or not,
// and to change nothing.
func refused(t *trial, bad state.Checkpoint, what string) {
	s, key := t.store(), t.key(what)
	t.want(s.Save(t.ctx, key, bad), state.ErrInvalid, "Save of %s under a new key", what)
	t.wantNone(s, key)
	t.save(s, key, numbered(1, 5))
	t.want(s.Save(t.ctx, key, bad), state.ErrInvalid, "Save of %s over a checkpoint", what)
	t.wantLoad(s, key, numbered(1, 5), 0)
	t.save(s, key, numbered(4, 6)) // the refusals left no sequence behind
	t.wantLoad(s, key, numbered(4, 6), 0)
}

func saveNoToken(t *trial) {
	bad := numbered(2, 6)
	bad.Token = state.Checkpoint{}.Token
	refused(t, bad, "a checkpoint without a token")
}

func saveSequenceTooBig(t *trial) {
	refused(t, numbered(2, state.MaxSequence+1), "sequence MaxSequence+1")
}

func saveNotJSON(t *trial) {
	bad := numbered(2, 6)
	bad.Extra = map[string]json.RawMessage{"good": json.RawMessage(`1`), "bad": json.RawMessage(`{"cut":`)}
	refused(t, bad, "an Extra that is not JSON")
}

func saveNotUTF8(t *trial) {
	bad := numbered(2, 6)
	bad.Fingerprint = "f\xff"
	refused(t, bad, "a fingerprint that is not UTF-8")
	bad = numbered(3, 7)
	bad.Extra = map[string]json.RawMessage{"n\xff": json.RawMessage(`1`)}
	refused(t, bad, "an Extra with a name that is not UTF-8")
	bad.Extra = map[string]json.RawMessage{"n": json.RawMessage("\"\xff\"")}
	refused(t, bad, "an Extra with a text that is not UTF-8")
}

func saveBadKeys(t *trial) {
	s := t.store()
	for what, key := range map[string]string{
		"the empty key":     "",
		"a key of 1025":     strings.Repeat("k", state.MaxKeyLen+1),
		"1025 with a rune":  strings.Repeat("k", state.MaxKeyLen-1) + "é",
		"not UTF-8":         "k\xff",
		"half a rune":       "k\xc3",
		"a surrogate":       "k\xed\xa0\x80",
		"a NUL, overlong":   "k\xc0\x80",
		"just a wrong byte": "\x80",
	} {
		t.want(s.Save(t.ctx, key, sample(1)), state.ErrInvalid, "Save under %s", what)
		_, err := s.Load(t.ctx, key)
		t.want(err, state.ErrInvalid, "Load of %s", what)
		t.want(s.Clear(t.ctx, key), state.ErrInvalid, "Clear of %s", what)
	}
}

func saveOtherKeysUntouched(t *trial) {
	s := t.store()
	a, ab, abc := t.key("a"), t.key("a/b"), t.key("a/b/c")
	t.save(s, ab, sample(1))
	t.wantNone(s, a)
	t.wantNone(s, abc)
	t.save(s, abc, sample(2))
	t.save(s, a, sample(3))
	t.save(s, a, sample(4))
	if err := s.Clear(t.ctx, ab); err != nil {
		t.errorf("Clear: %v", err)
	}
	t.wantLoad(s, a, sample(4), 0)
	t.wantNone(s, ab)
	t.wantLoad(s, abc, sample(2), 0)
}
