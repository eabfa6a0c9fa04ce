package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tidyAll tidies the modules in order, and publishes each for those after it.
func (t *trial) tidyAll(ctx context.Context) error {
	if err := t.setVersion(ctx); err != nil {
		return err
	}
	for _, m := range modules {
		err := t.step("tidy "+m.path(), func() error { return t.tidy(ctx, m) })
		if err != nil {
			return err
		}
		if !m.published {
			continue
		}
		if err := t.commit(ctx); err != nil {
			return err
		}
		if err := t.tag(ctx, m); err != nil {
			return err
		}
		if t.sums[m.path()], err = t.publish(ctx, m, "proxy"); err != nil {
			return err
		}
	}
	return t.commit(ctx)
}

// setVersion makes the modules require each other in the version on trial. It
// is done for all of them before any is published, because go.work is one of
// the files of the root module.
func (t *trial) setVersion(ctx context.Context) error {
	args := []string{"work", "edit"}
	for _, m := range modules {
		mod, err := readMod(ctx, filepath.Join(t.repo(), m.file("go.mod")))
		if err != nil {
			return err
		}
		for _, r := range mod.Require {
			if !isOwn(r.Path) || r.Version == t.version {
				continue
			}
			_, err := output(ctx, filepath.Join(t.repo(), m.dir), t.inClone(), "go", "mod", "edit", "-require="+r.Path+"@"+t.version)
			if err != nil {
				return err
			}
		}
	}
	replaces, err := t.workReplaces(ctx)
	if err != nil {
		return err
	}
	for _, r := range replaces {
		if isOwn(r.Old.Path) && r.Old.Version != t.version {
			args = append(args, "-dropreplace="+r.Old.Path+"@"+r.Old.Version, "-replace="+r.Old.Path+"@"+t.version+"="+r.New.Path)
		}
	}
	if len(args) == 2 {
		return nil
	}
	_, err = output(ctx, t.repo(), nil, "go", args...)
	return err
}

type replace struct {
	Old, New struct{ Path, Version string }
}

func (t *trial) workReplaces(ctx context.Context) ([]replace, error) {
	out, err := output(ctx, t.repo(), nil, "go", "work", "edit", "-json")
	if err != nil {
		return nil, err
	}
	var work struct{ Replace []replace }
	return work.Replace, json.Unmarshal([]byte(out), &work)
}

// tidy records in untidy which files it had to change, other than the sums of
// our own modules: those are in a go.sum only from a release on.
func (t *trial) tidy(ctx context.Context, m module) error {
	dir := filepath.Join(t.repo(), m.dir)
	if err := t.dropOwnSums(m); err != nil {
		return err
	}
	var before [2][]byte
	for i, name := range modFiles {
		var err error
		if before[i], err = readIfThere(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if _, err := output(ctx, dir, t.inClone(), "go", "mod", "tidy"); err != nil {
		return err
	}
	for i, name := range modFiles {
		after, err := readIfThere(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(before[i], withoutOwnSums(after)) {
			t.untidy = append(t.untidy, m.file(name))
		}
	}
	return nil
}

var modFiles = [2]string{"go.mod", "go.sum"}

// dropOwnSums removes the sums of our own modules from a go.sum of the clone.
// During a release they are of an earlier commit, and the go command would
// refuse them.
func (t *trial) dropOwnSums(m module) error {
	name := filepath.Join(t.repo(), m.file("go.sum"))
	sums, err := readIfThere(name)
	if err != nil {
		return err
	}
	if rest := withoutOwnSums(sums); !bytes.Equal(sums, rest) {
		return os.WriteFile(name, rest, 0o644)
	}
	return nil
}

// withoutOwnSums leaves a go.mod as it is: the lines there that begin with a
// path are indented.
func withoutOwnSums(sums []byte) []byte {
	var rest []byte
	for line := range bytes.Lines(sums) {
		if path, _, _ := strings.Cut(string(line), " "); !isOwn(path) {
			rest = append(rest, line...)
		}
	}
	return rest
}

func isOwn(path string) bool { return path == base || strings.HasPrefix(path, base+"/") }

func readIfThere(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// changed returns the files of the clone that differ from those at HEAD.
func (t *trial) changed(ctx context.Context) ([]string, error) {
	if _, err := output(ctx, t.repo(), nil, "git", "add", "--all"); err != nil {
		return nil, err
	}
	out, err := output(ctx, t.repo(), nil, "git", "diff", "--cached", "--name-only", t.head)
	return strings.Fields(out), err
}

// writeBack copies files of the clone into the working tree. It refuses if one
// of them has uncommitted changes there, which would be lost.
func (t *trial) writeBack(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return nil
	}
	args := append([]string{"status", "--porcelain", "--"}, files...)
	dirty, err := output(ctx, t.source, nil, "git", args...)
	if err != nil {
		return err
	}
	if dirty != "" {
		return fmt.Errorf("commit or undo these changes first, they would be overwritten:\n%s", dirty)
	}
	for _, name := range slices.Sorted(slices.Values(files)) {
		b, err := os.ReadFile(filepath.Join(t.repo(), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(t.source, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
