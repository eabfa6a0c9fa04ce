//go:build !linux

package filestore

import "os"

// datasync is Sync where there is no fdatasync, or (macOS) none that reaches the disk.
func datasync(f *os.File) error { return f.Sync() }
