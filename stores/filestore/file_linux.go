package filestore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A linuxFile is an open file. It is no os.File, because opening one of those asks for
// the file's times, which makes the next write dearer (see look), and tries to have the
// file polled: where many streams take turns at few open files, that is most of what a
// save takes besides the flush.
type linuxFile struct {
	fd   int
	path string
}

// openFile refuses symbolic links, because a file is replaced by renaming, which would
// replace the link. O_NONBLOCK keeps a named pipe from stopping us; for a regular file
// it means nothing.
func openFile(path string, flag int) (file, error) {
	flag |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Open(path, flag|unix.O_NOATIME, fileMode) })
	if err == unix.EPERM {
		fd, err = retry(func() (int, error) { return unix.Open(path, flag, fileMode) })
	}
	if errors.Is(err, unix.ELOOP) {
		err = errLink
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &linuxFile{fd, path}, nil
}

// retry calls again what a signal has interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (f *linuxFile) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: f.path, Err: err}
}

func (f *linuxFile) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; ; {
		m, err := retry(func() (int, error) { return unix.Pread(f.fd, b[n:], off+int64(n)) })
		switch n += max(m, 0); {
		case err != nil:
			return n, f.fail("read", err)
		case n == len(b):
			return n, nil
		case m == 0:
			return n, io.EOF
		}
	}
}

func (f *linuxFile) WriteAt(b []byte, off int64) (int, error) {
	for n := 0; ; {
		m, err := retry(func() (int, error) { return unix.Pwrite(f.fd, b[n:], off+int64(n)) })
		switch n += max(m, 0); {
		case err != nil:
			return n, f.fail("write", err)
		case n == len(b):
			return n, nil
		case m == 0:
			return n, f.fail("write", io.ErrUnexpectedEOF)
		}
	}
}

// Close closes once: the number may be another file's by now.
func (f *linuxFile) Close() error {
	fd := f.fd
	f.fd = -1
	if err := unix.Close(fd); err != unix.EINTR {
		return f.fail("close", err)
	}
	return nil // Linux has closed it
}

func (f *linuxFile) Stat() (fs.FileInfo, error) {
	info := &linuxInfo{name: filepath.Base(f.path)}
	_, err := retry(func() (int, error) { return 0, syscall.Fstat(f.fd, &info.st) })
	return info, f.fail("fstat", err)
}

func (f *linuxFile) Same(info fs.FileInfo) (bool, error) {
	same, _, err := statx(f.fd, "", unix.AT_EMPTY_PATH, f.path, info)
	return same, err
}

func (f *linuxFile) Truncate(size int64) error {
	_, err := retry(func() (int, error) { return 0, unix.Ftruncate(f.fd, size) })
	return f.fail("truncate", err)
}

func (f *linuxFile) Sync() error {
	_, err := retry(func() (int, error) { return 0, unix.Fsync(f.fd) })
	return f.fail("fsync", err)
}

// Datasync flushes what was written, and of the metadata only what reading it back
// takes: in a file that keeps its length, the write and nothing else.
func (f *linuxFile) Datasync() error {
	_, err := retry(func() (int, error) { return 0, unix.Fdatasync(f.fd) })
	return f.fail("fdatasync", err)
}

func (f *linuxFile) TryLock(exclusive bool) (bool, error) { return tryLock(f.fd, f.path, exclusive) }
func (f *linuxFile) Unlock() error                        { return unlock(f.fd, f.path) }

// A linuxInfo is what fstat says.
type linuxInfo struct {
	name string
	st   syscall.Stat_t
}

func (i *linuxInfo) Name() string       { return i.name }
func (i *linuxInfo) Size() int64        { return i.st.Size }
func (i *linuxInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i *linuxInfo) Sys() any           { return &i.st }
func (i *linuxInfo) ModTime() time.Time { return time.Unix(i.st.Mtim.Unix()) }

func (i *linuxInfo) Mode() fs.FileMode {
	perm := fs.FileMode(i.st.Mode) & fs.ModePerm
	switch i.st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return perm
	case syscall.S_IFDIR:
		return perm | fs.ModeDir
	}
	return perm | fs.ModeIrregular
}
