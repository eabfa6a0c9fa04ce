package filestore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// The format as its description says it, read by code that shares nothing with the
// store's.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	const key = `shop/<orders> "é"`
	g := acquire(t, s, key, "first")
	for n := 1; n <= 5; n++ {
		must(t, s.SaveFenced(t.Context(), key, g.Fence, numbered(t, n)))
	}
	text, err := os.ReadFile(filepath.Join(dir, "shop%2f%3corders%3e%20%22%c3%a9%22.json"))
	must(t, err)
	if len(text) != 2*4096 {
		t.Fatalf("the file has %d bytes", len(text))
	}
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) != 3 || len(lines[0]) != 4096 || len(lines[1]) != 4096 || lines[2] != "" {
		t.Fatalf("the file is not two lines of 4096 bytes")
	}
	// Acquire wrote generations 1 and 2, and five saves 3 to 7, the first in line 1.
	for i, generation := range []int{7, 6} {
		line := strings.TrimRight(lines[i], " \n")
		head, tail, _ := strings.Cut(line, `,"checksum":"`)
		if want := fmt.Sprintf(`crc32c:%08x@%d"}`, crc([]byte(head)), generation); tail != want {
			t.Errorf("line %d ends in %q, want %q", i+1, tail, want)
		}
		if start := fmt.Sprintf(`{"version":1,"generation":%d,"key":`, generation); !strings.HasPrefix(line, start) {
			t.Errorf("line %d doesn't begin with %s: %s", i+1, start, line)
		}
		var fields struct {
			Key      string
			Sequence int
			Epoch    int
			Token    struct {
				Data string `json:"_data"`
			}
		}
		must(t, json.Unmarshal([]byte(line), &fields))
		if fields.Key != key || fields.Sequence != generation-2 || fields.Epoch != 1 || !strings.HasPrefix(fields.Token.Data, "82") {
			t.Errorf("line %d says %+v", i+1, fields)
		}
	}
}

func TestUnknownFieldsAreKept(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	path := s.path("k")
	text, err := os.ReadFile(path)
	must(t, err)
	n := len(text) / 2
	var out []byte
	for _, half := range [][]byte{text[:n], text[n:]} {
		sl := readSlot(half)
		line := append(bytes.Clone(sl.body), `,"mood":{"a":[1,2]}`...)
		line = fmt.Appendf(line, `,"checksum":"crc32c:%08x@%d"}`, crc(line), sl.mark.generation)
		out = append(out, pad(line, n)...)
	}
	must(t, os.WriteFile(path, out, 0o600))
	must(t, s.Save(t.Context(), "k", plain(t, 2)))
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 3)))
	text, err = os.ReadFile(path)
	must(t, err)
	if got := bytes.Count(text, []byte(`,"mood":{"a":[1,2]}`)); got != 2 {
		t.Errorf("the unknown field stands in %d lines, want 2", got)
	}
	for _, field := range []string{`"generation"`, `"key"`, `"checksum"`} {
		if got := bytes.Count(text, []byte(field)); got != 2 {
			t.Errorf("%s stands there %d times, want 2", field, got)
		}
	}
}

// A slot of which a torn write has left any mix of sectors, old and new, is never
// taken for a whole one, and never for an edit.
func TestTornSlots(t *testing.T) {
	lineOf := func(generation uint64, size int) []byte {
		cp := numberedOf(t, int(generation), size)
		rec := record.Record{Status: record.Saved, Checkpoint: cp, LastSequence: cp.Sequence}
		line, _, err := appendLine(nil, generation, quote("k"), &rec)
		must(t, err)
		return line
	}
	const slotBytes = 4096
	mixes := 0
	for _, g := range []uint64{9, 10, 99, 100, 36400} { // the new one has a digit more, too
		for size := 0; size < 1100; size += 31 {
			for _, other := range []int{0, 1, -1, 300, -300} {
				if size+other < 0 {
					continue
				}
				before, after := pad(lineOf(g-1, size), slotBytes), pad(lineOf(g+1, size+other), slotBytes)
				for mask := range 1 << 4 { // which of the first sectors are new
					mix := bytes.Clone(before)
					for i := range 4 {
						if mask>>i&1 == 1 {
							copy(mix[i*sector:(i+1)*sector], after[i*sector:])
						}
					}
					if bytes.Equal(mix, before) || bytes.Equal(mix, after) {
						continue
					}
					mixes++
					if sl := readSlot(mix); sl.err == nil || sl.edited {
						t.Fatalf("a torn slot (generation %d, sizes %d and %d, sectors %04b) is taken for a whole one (%v) or an edit (%v)",
							g, size, size+other, mask, sl.err == nil, sl.edited)
					}
				}
			}
		}
	}
	if mixes < 5000 {
		t.Fatalf("only %d mixes were tried", mixes)
	}
}

func TestSlotLen(t *testing.T) {
	for n, wantLen := range map[int]int{1: 4096, 3000: 4096, 3276: 4096, 3277: 8192, 4095: 8192, 100 << 10: 131072} {
		if got, err := slotLen(n); err != nil || got != wantLen || got < n+1 {
			t.Errorf("a line of %d bytes gets a slot of %d (%v), want %d", n, got, err, wantLen)
		}
	}
	if _, err := slotLen(maxSlot); err == nil {
		t.Error("a line of 64 MiB is accepted")
	}
	if got, err := slotLen(maxSlot - 1); err != nil || got != maxSlot {
		t.Errorf("the longest line gets a slot of %d (%v)", got, err)
	}
}

func TestTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("a record of 64 MiB takes seconds")
	}
	s, _ := openTest(t, t.TempDir())
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	cp := plain(t, 2)
	cp.Extra = map[string]json.RawMessage{"big": json.RawMessage(`"` + strings.Repeat("x", maxSlot) + `"`)}
	want(t, s.Save(t.Context(), "k", cp), state.ErrInvalid, "the maximum is")
	wantToken(t, s, "k", numbered(t, 1))
}

// The file grows and goes on, at 16 MB as well, the largest token that a server sends.
func TestGrowth(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	for i, size := range []int{0, 3000, 5000, 100 << 10, 16 << 20, 0, 7} {
		cp := numberedOf(t, i+1, size)
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, cp))
		wantToken(t, s, "k", cp)
	}
}
