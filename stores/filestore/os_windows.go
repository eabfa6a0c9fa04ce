package filestore

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// renameOpen says that a file can't be renamed, nor replaced, while it is open.
const renameOpen = false

func openNoFollow(path string, flag int, perm os.FileMode) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
		return nil, &os.PathError{Op: "open", Path: path, Err: errLink}
	}
	return os.OpenFile(path, flag, perm)
}

// syncDir does nothing: NTFS writes changes of directories to its log, and Windows
// has no call to flush one.
func syncDir(string) error { return nil }

func writable(dir string) error {
	_, err := os.Stat(dir)
	return err
}

// Windows locks keep others from reading, so the lock is far behind the text.
const lockAt = 1 << 30

func (f osFile) TryLock(exclusive bool) (bool, error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{Offset: lockAt})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	}
	return false, &os.PathError{Op: "LockFileEx", Path: f.Name(), Err: err}
}

func (f osFile) Unlock() error {
	if err := windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: lockAt}); err != nil {
		return &os.PathError{Op: "UnlockFileEx", Path: f.Name(), Err: err}
	}
	return nil
}

// fileLimit: Windows has none to speak of.
func fileLimit() int { return 1 << 30 }

func tooManyOpen(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }
