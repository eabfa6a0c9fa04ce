package ndjson

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A file is what the destination needs of an *os.File.
type file interface {
	io.Writer
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Sync() error
	// startFlush has the kernel begin to write a part to the disk, so that the next
	// Sync has less to wait for. It promises nothing.
	startFlush(from, size int64)
	Truncate(size int64) error
	Close() error
}

// fileSystem is what the destination needs of the operating system. Tests make
// it fail, or lose what was never flushed.
type fileSystem interface {
	// create makes a file that did not exist, to append to and to read, and locks it.
	create(path string) (file, error)
	// open opens a regular file to read it and to cut its end off. It locks it, if nobody
	// else has, and returns what is known of that.
	open(path string) (file, use, error)
	rename(from, to string) error
	remove(path string) error
	// syncDir flushes the entries of a directory.
	syncDir(path string) error
}

// A use is what is known of who else has a file open to write to it.
type use int

const (
	unknown use = iota // the file system has no locks
	free               // nobody
	taken              // a living process, perhaps this one
)

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err // not f, which would make an interface that is not nil
	}
	lock(f)
	return osFile{f}, nil
}

func (osFS) open(path string) (file, use, error) {
	f, err := openRegular(path, os.O_RDWR)
	if err != nil {
		return nil, unknown, err
	}
	return osFile{f}, lock(f), nil
}

func (osFS) rename(from, to string) error { return os.Rename(from, to) }

func (osFS) remove(path string) error { return os.Remove(path) }

// openRegular opens a regular file, and nothing else: a named pipe would never answer,
// and writing to what a symbolic link points to is not what anybody has asked for.
func openRegular(path string, flag int) (*os.File, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, notRegular(path, info)
	case err != nil && !(errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0):
		return nil, err
	}
	f, err := os.OpenFile(path, flag|openFlags, 0o640)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = notRegular(path, info) // it was replaced just now
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readRegular returns what a regular file has, of at most limit bytes.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// An irregularError is about something that is not a file and has the name of one. It is
// refused as what may not be written is: no restart helps.
type irregularError struct{ text string }

func (e irregularError) Error() string { return e.text }

func (e irregularError) Is(target error) bool { return target == fs.ErrPermission }

// notRegular says what is where a file should be.
func notRegular(path string, info fs.FileInfo) error {
	what := "a special file"
	switch mode := info.Mode(); {
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeSymlink != 0:
		what = "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	}
	return irregularError{path + " is " + what + ", not a regular file; move it away"}
}

// mkdir creates dir, and flushes the entry of each directory it creates.
func mkdir(fsys fileSystem, dir string) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fmt.Errorf("it is a file: %w", syscall.ENOTDIR)}
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
