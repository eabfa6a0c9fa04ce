//go:build !linux

package filestore

import (
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
