package ndjson

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A file is what the destination needs of an *os.File.
type file interface {
	io.ReadWriteSeeker
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// fileSystem is what the destination needs of the operating system. Tests make
// it fail, or lose what was never flushed.
type fileSystem interface {
	// create makes a file that did not exist, to append to.
	create(path string) (file, error)
	// open opens a file to read it and to cut its end off.
	open(path string) (file, error)
	// syncDir flushes the entries of a directory.
	syncDir(path string) error
}

type osFS struct{}

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err // not f, which would make an interface that is not nil
	}
	lock(f)
	return f, nil
}

func (osFS) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if !lock(f) {
		return nil, errors.Join(errInUse, f.Close())
	}
	return f, nil
}

// errInUse: a living process writes to the file.
var errInUse = errors.New("another process writes to it")

// mkdir creates dir, and flushes the entry of each directory it creates.
func mkdir(fsys fileSystem, dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("it is a file, not a directory")}
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := mkdir(fsys, parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.syncDir(parent)
}

// listFiles are the files of a stem, with their sizes, in no order.
func listFiles(dir, stem string) (map[fileName]int64, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	found := make(map[fileName]int64)
	for _, s := range names {
		n, ok := parseName(s)
		if !ok || n.stem != stem {
			continue
		}
		info, err := os.Lstat(filepath.Join(dir, s))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a consumer has just moved it away
		}
		if err != nil {
			return nil, err
		}
		found[n] = info.Size()
	}
	return found, nil
}
