package ndjson

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
)

// What CheckOpening says is what Open does, and it changes nothing.
func TestCheckOpening(t *testing.T) {
	line := text(t, 1, 1)
	for _, c := range []struct {
		name    string
		files   map[string]string
		opening rigatoni.Opening
	}{
		{"a first start", nil, rigatoni.Opening{FirstStart: true}},
		{"a first start beside output", map[string]string{name(1, 1): line}, rigatoni.Opening{FirstStart: true}},
		{"the same, accepted", map[string]string{name(1, 1): line}, rigatoni.Opening{FirstStart: true, AcceptAnyOutput: true}},
		{"a resume", map[string]string{open(1, 1): line + line}, rigatoni.Opening{Saved: savedDoc(name(1, 1), len(line), 1, "")}},
		{"output that is ahead", map[string]string{name(1, 2): line}, rigatoni.Opening{Saved: savedDoc(name(1, 1), len(line), 1, "")}},
		{"output that is short", map[string]string{open(1, 1): line[:4]}, rigatoni.Opening{Saved: savedDoc(name(1, 1), len(line), 1, "")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "out")
			if c.files != nil {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range c.files {
				put(t, dir, name, text)
			}
			before := listed(t, dir)
			d, err := Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.opening.Key, c.opening.Fence = "shop", fence(2)
			checked := d.CheckOpening(t.Context(), c.opening)
			if after := listed(t, dir); after != before {
				t.Errorf("it changed\n%s\nto\n%s", before, after)
			}
			s, opened := d.Open(t.Context(), c.opening)
			if opened == nil {
				defer s.(*sink).Close()
			}
			if fmt.Sprint(checked) != fmt.Sprint(opened) {
				t.Errorf("\nchecked %v\n opened %v", checked, opened)
			}
		})
	}
}

// listed is the directory with what its files hold and when they were written.
func listed(t *testing.T, dir string) (all string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintln(e.Name(), info.ModTime(), read(t, dir, e.Name()))
	}
	return all
}
