//go:build unix && !linux

package filestore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openNoFollow refuses symbolic links, because a file is replaced by renaming, which
// would replace the link. O_NONBLOCK keeps a named pipe from stopping us; for a
// regular file it means nothing.
func openNoFollow(path string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EMLINK) {
		return nil, &os.PathError{Op: "open", Path: path, Err: errLink}
	}
	return f, err
}

func (f osFile) TryLock(exclusive bool) (bool, error) {
	return tryLock(int(f.Fd()), f.Name(), exclusive)
}

func (f osFile) Unlock() error { return unlock(int(f.Fd()), f.Name()) }
