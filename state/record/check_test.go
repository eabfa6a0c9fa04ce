package record

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

func TestCheckSave(t *testing.T) {
	if err := CheckSave("k", full(t).Checkpoint); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*state.Checkpoint){
		"no resume token":        func(c *state.Checkpoint) { c.Token = resumetoken.Token{} },
		"sequence 900719925":     func(c *state.Checkpoint) { c.Sequence = state.MaxSequence + 1 },
		"fingerprint is not":     func(c *state.Checkpoint) { c.Fingerprint = "\xff" },
		"a name in Extra":        func(c *state.Checkpoint) { c.Extra["\xff"] = json.RawMessage("1") },
		`Extra["x"] is not JSON`: func(c *state.Checkpoint) { c.Extra["x"] = json.RawMessage("{") },
		`Extra["y"] is not JSON`: func(c *state.Checkpoint) { c.Extra["y"] = json.RawMessage("\"\xff\"") },
		`Extra["z"] is not JSON`: func(c *state.Checkpoint) { c.Extra["z"] = nil },
	} {
		cp := full(t).Checkpoint
		change(&cp)
		if err := CheckSave("k", cp); !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an ErrInvalid with %q", err, want)
		}
	}
	if err := CheckSave("", full(t).Checkpoint); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("an empty key: %v", err)
	}
}

func TestCheckBatch(t *testing.T) {
	cp := full(t).Checkpoint
	errs := CheckBatch([]state.Item{{Key: "a", Checkpoint: cp}, {Key: "twice", Checkpoint: cp}, {Key: "b"}, {Key: "twice", Checkpoint: cp}})
	for i, want := range []string{"", `"twice" more than once`, "no resume token", `"twice" more than once`} {
		if (errs[i] == nil) != (want == "") || errs[i] != nil && (!errors.Is(errs[i], state.ErrInvalid) || !strings.Contains(errs[i].Error(), want)) {
			t.Errorf("item %d: %v, want %q", i, errs[i], want)
		}
	}
}
