//go:build !linux

package filestore

import (
	"errors"
	"io/fs"
	"os"
)

// datasync is Sync where there is no fdatasync, or (macOS) none that reaches the disk.
func datasync(f *os.File) error { return f.Sync() }

func look(path string, info fs.FileInfo) (same bool, size int64, err error) {
	now, err := os.Lstat(path)
	if err != nil {
		return false, 0, err
	}
	return os.SameFile(now, info), now.Size(), nil
}

func same(f *os.File, info fs.FileInfo) (bool, error) {
	now, err := f.Stat()
	return err == nil && os.SameFile(now, info), err
}

// openSyncer: no other system has a flush that is known to reach a whole file system.
func openSyncer(string) (syncer, error) { return nil, errors.ErrUnsupported }
