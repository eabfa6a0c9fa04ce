package ndjson

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// A mutant is this package with a mistake made on purpose.
type mutant struct{ file, old, new string }

// mutants are the mistakes that TestExactlyOnce must find.
var mutants = map[string]mutant{
	"files are finished before the checkpoint is saved": {
		"sink.go", "\treturn json.Marshal(savedOf(s.ended, s.end))\n",
		"\tdoc, err := json.Marshal(savedOf(s.ended, s.end))\n\ts.sure = s.end\n\ts.finish()\n\treturn doc, err\n",
	},
	"nothing is cut at opening": {
		"recovery.go", "if cut := info.Size() - f.size; cut > 0 {", "if cut := info.Size() - f.size; cut > 1<<40 {",
	},
	"only torn lines are cut at opening": {
		"recovery.go", "\tinfo, err := h.Stat()\n", "\tf.size, _ = wholeLines(io.NewSectionReader(h, 0, 1<<40))\n\tinfo, err := h.Stat()\n",
	},
	"files that no checkpoint covers are finished": {
		"recovery.go", "if err := r.removeFile(f);", "if err := r.d.finish(f.base, f.name);",
	},
	"the cut is not flushed": {
		"recovery.go", "\tif err := h.Sync(); err != nil {\n\t\treturn false,", "\tif err := error(nil); err != nil {\n\t\treturn false,",
	},
	"final names are not flushed": {
		"output.go", "\treturn s.d.fs.syncDir(s.d.dir)\n", "\treturn nil\n",
	},
	"new files' names are not flushed": {
		"output.go", "\tif s.newEntries {\n", "\tif s.newEntries = false; s.newEntries {\n",
	},
	"events are not flushed": {
		"output.go", "if err := s.cur.file.Sync(); err != nil {", "if err := error(nil); err != nil {",
	},
	"a failed flush is repeated": {
		"output.go", "\t\t\ts.fail(fmt.Errorf(\"ndjson: flushing %s: %w\", s.cur.name.open(), err))\n\t\t\treturn\n", "\t\t\treturn\n",
	},
	"a file that a frozen owner has open is finished": {
		"recovery.go", "\tif used != free || ", "\tif used == unknown || ",
	},
	"a file is copied without being claimed": {
		"recovery.go", "filepath.Join(r.d.dir, f.name.claimed(r.owned.generation))", "filepath.Join(r.d.dir, f.base)",
	},
	"files are finished before the marker says so": {
		"output.go", "\tif err := s.d.writeMarker(s.stem, s.owned, m); err != nil {\n\t\treturn err\n\t}\n", "\tdefer s.d.writeMarker(s.stem, s.owned, m)\n",
	},
	"names go back when the epoch does": {
		"output.go", "fileName{s.stem, s.owned.generation, s.number}", "fileName{s.stem, s.owned.fence.Epoch, s.number}",
	},
	"what consumers have taken away is forgotten": {
		"generation.go", "range slices.Concat(l.markers, l.claims)", "range slices.Concat(l.markers, l.claims)[:0]",
	},
	"Sync doesn't find that a file was removed": {
		"sink.go", "\t\ts.verify()\n", "",
	},
	"files that may be a newer owner's are removed": {
		"generation.go", "return generation > settled && generation != r.owned.generation", "return generation > 1<<60",
	},
	"Close finishes what is flushed": {
		"output.go", "s.cur.size > 0 && !s.cur.dirty && s.end == s.sure", "s.cur.size > 0 && !s.cur.dirty",
	},
}

func TestMutants(t *testing.T) {
	if !campaign.Full(t) {
		t.Skip("a campaign: RIGATONI_CAMPAIGN=full")
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			overlay := m.overlay(t)
			var out []byte
			var err error
			for range 5 { // a random case may miss it
				cmd := exec.Command("go", "test", "-overlay", overlay, "-run", "^TestExactlyOnce$", "-count", "1", ".")
				cmd.Env = append(cmd.Environ(), campaign.Var+"=short")
				if out, err = cmd.CombinedOutput(); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("it was not found")
			} else if !strings.Contains(string(out), "--- FAIL: TestExactlyOnce") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// overlay is a file for go's -overlay.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	original, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has changed: what this test replaces is in it %d times, not once:\n%s", m.file, n, m.old)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, m.file)
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, m.file, strings.Replace(string(text), m.old, m.new, 1))
	put(t, dir, "overlay.json", string(replace))
	return filepath.Join(dir, "overlay.json")
}
