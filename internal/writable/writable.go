// Package writable says whether a directory could be written to, without writing.
//
// The command is a module of its own and may be linked with a newer version of this
// one. Therefore what is exported here stays compatible, as if it were public.
package writable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Dir returns the error that making the directory, if it isn't there, or a file in
// it would have, and whether it is there. A full disk is not noticed.
func Dir(path string) (exists bool, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return false, err
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			continue
		case err != nil:
			return false, err
		case !info.IsDir():
			return false, &fs.PathError{Op: "mkdir", Path: dir, Err: fmt.Errorf("it is a file: %w", syscall.ENOTDIR)}
		}
		if err := access(dir); err != nil {
			return dir == path, &fs.PathError{Op: "write to", Path: dir, Err: err}
		}
		return dir == path, nil
	}
}
