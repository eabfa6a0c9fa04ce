//go:build unix

package ndjson

import (
	"os"
	"syscall"
)

// lock marks f as being written by this process, until it is closed, and tells
// whether nobody else has marked it. An advisory lock: all it guards against is
// that a second owner cuts the end off a file that the first still writes,
// which can happen only without a lease. Where it isn't supported (some network
// file systems), nothing is marked.
func lock(f *os.File) bool {
	free := true
	c, err := f.SyscallConn()
	if err != nil {
		return free
	}
	_ = c.Control(func(fd uintptr) { // fails only for a file that is closed
		free = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK
	})
	return free
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
