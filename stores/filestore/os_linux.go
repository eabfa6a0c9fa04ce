package filestore

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync flushes what was written, and of the metadata only what reading it back
// takes: in a file that keeps its length, the write and nothing else.
func datasync(f *os.File) error {
	for {
		switch err := unix.Fdatasync(int(f.Fd())); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
