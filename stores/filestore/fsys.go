package filestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fsys is the operating system as far as this store asks it for anything. Tests put
// one in between that fails at the n-th call. Errors name the call and the path, as
// those of package os do.
type fsys interface {
	// Open opens a file, and fails if the last part of path is a symbolic link.
	Open(path string, flag int) (file, error)
	// Look reports whether path names the file that info is of, and how long it is. It
	// asks for nothing else: see look.
	Look(path string, info fs.FileInfo) (same bool, size int64, err error)
	Stat(path string) (fs.FileInfo, error)
	Rename(from, to string) error
	Remove(path string) error
	Mkdir(path string) error
	Names(dir string) ([]string, error)
	// SyncDir makes what was created, renamed and removed in a directory durable.
	SyncDir(dir string) error
	// Writable reports whether files can be created in a directory.
	Writable(dir string) error
	// OpenSyncer returns a syncer for the file system of a directory, or
	// errors.ErrUnsupported if that isn't known to be reliable.
	OpenSyncer(dir string) (syncer, error)
}

// A syncer makes everything durable that was written to a file system before SyncFS was
// called: contents, lengths and names. SyncFS reports, once, that something written by
// any process since the syncer was opened could not be written back.
type syncer interface {
	SyncFS() error
	io.Closer
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	// Same reports whether it is the file that info is of. Like Look it asks for nothing
	// else.
	Same(info fs.FileInfo) (bool, error)
	Truncate(size int64) error
	// Sync makes the contents and the length durable; Datasync what is needed to
	// read the contents back.
	Sync() error
	Datasync() error
	// TryLock locks the whole file while it is open, or reports that another holder has
	// a conflicting lock.
	TryLock(exclusive bool) (bool, error)
	Unlock() error
}

const (
	dirMode  = 0o700
	fileMode = 0o600
)

type osFS struct{}

func (osFS) Open(path string, flag int) (file, error) { return openFile(path, flag) }

func (osFS) Look(path string, info fs.FileInfo) (bool, int64, error) { return look(path, info) }

func (osFS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }
func (osFS) Rename(from, to string) error          { return os.Rename(from, to) }
func (osFS) Remove(path string) error              { return os.Remove(path) }
func (osFS) Mkdir(path string) error               { return os.Mkdir(path, dirMode) }
func (osFS) SyncDir(dir string) error              { return syncDir(dir) }
func (osFS) Writable(dir string) error             { return writable(dir) }
func (osFS) OpenSyncer(dir string) (syncer, error) { return openSyncer(dir) }

func (osFS) Names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// makeDir makes a directory and what is missing above it, durably.
func makeDir(fsys fsys, dir string) error {
	parent := filepath.Dir(dir)
	switch err := fsys.Mkdir(dir); {
	case err == nil:
		return fsys.SyncDir(parent)
	case errors.Is(err, fs.ErrNotExist) && parent != dir:
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
		if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return fsys.SyncDir(parent)
	default:
		return existingDir(fsys, dir, parent, err)
	}
}

// existingDir accepts a directory that is there. Whoever made it may have been killed
// before it was durable, so its parent is flushed, where that is allowed.
func existingDir(fsys fsys, dir, parent string, mkdirErr error) error {
	info, err := fsys.Stat(dir)
	switch {
	case err != nil:
		return mkdirErr
	case !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fmt.Errorf("it is a file: %w", syscall.ENOTDIR)}
	}
	if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
