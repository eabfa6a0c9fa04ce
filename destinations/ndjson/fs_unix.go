//go:build unix

package ndjson

import (
	"io/fs"
	"os"
	"syscall"
)

// openFlags are those of every file that was there before. A symbolic link is not
// followed: what it points to is nobody's output, and would be cut. O_NONBLOCK keeps a
// named pipe from stopping us; for a regular file it means nothing.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// device returns the file system that a file is on.
func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}

// lock marks f as being written by this process until it is closed, and reports
// whether somebody else has marked it. The lock is advisory: it says whether the
// process that began a file is still there, frozen perhaps.
func lock(f *os.File) use {
	c, err := f.SyscallConn()
	if err != nil {
		return unknown
	}
	known := unknown
	_ = c.Control(func(fd uintptr) { // fails only for a file that is closed
		switch syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) {
		case nil:
			known = free
		case syscall.EWOULDBLOCK:
			known = taken
		}
	})
	return known
}

func (osFS) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
