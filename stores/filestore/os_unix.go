//go:build unix

package filestore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameOpen says that a file can be renamed, and replaced, while it is open.
const renameOpen = true

// syncDir accepts that some file systems (of other machines, mostly) have no way to
// flush a directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close(), reachable(dir))
}

// reachable reports whether dir can still be opened. When xfs has shut itself down, since
// its disk failed, it continues to report that a directory has been flushed, and what was
// renamed there is lost. To open anything fails then.
func reachable(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return d.Close()
}

func writable(dir string) error {
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// tryLock uses flock, not fcntl: the latter's locks are the process's, so that two
// stores in one process would not exclude each other.
func tryLock(fd int, path string, exclusive bool) (bool, error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for {
		switch err := unix.Flock(fd, how|unix.LOCK_NB); err {
		case nil:
			return true, nil
		case unix.EWOULDBLOCK:
			return false, nil
		case unix.EINTR:
		default:
			return false, &os.PathError{Op: "flock", Path: path, Err: err}
		}
	}
}

func unlock(fd int, path string) error {
	if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
		return &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return nil
}

// fileLimit is how many files this process may have open. Go has raised it as far as
// it may be raised.
func fileLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > 1<<30 {
		return 1 << 30
	}
	return int(l.Cur)
}

func tooManyOpen(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }
