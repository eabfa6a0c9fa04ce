//go:build !linux

package filestore

import (
	"errors"
	"io/fs"
	"os"
)

type osFile struct{ *os.File }

func openFile(path string, flag int) (file, error) {
	f, err := openNoFollow(path, flag, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Same(info fs.FileInfo) (bool, error) {
	now, err := f.Stat()
	return err == nil && os.SameFile(now, info), err
}

// Datasync is Sync where there is no fdatasync, or (macOS) none that reaches the disk.
func (f osFile) Datasync() error { return f.Sync() }

func look(path string, info fs.FileInfo) (same bool, size int64, err error) {
	now, err := os.Lstat(path)
	if err != nil {
		return false, 0, err
	}
	return os.SameFile(now, info), now.Size(), nil
}

// openSyncer: no other system has a flush that is known to reach a whole file system.
func openSyncer(string) (syncer, error) { return nil, errors.ErrUnsupported }
