package filestore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An fsSyncer is a directory that was opened to flush its file system. The kernel
// remembers, for each opened file, which write-back failures it has reported. Therefore
// the directory must be open before the data is written that its flush reports on.
type fsSyncer struct{ *os.File }

// openSyncer returns one for file systems whose syncfs was reviewed and tested: it waits for
// the data and the journal, and tells of every failure. overlayfs does not tell of
// those below it, and file systems of other machines have their own ideas.
func openSyncer(dir string) (syncer, error) {
	if !syncfsTells() {
		return nil, errors.ErrUnsupported
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return nil, errors.Join(&os.PathError{Op: "fstatfs", Path: dir, Err: err}, d.Close())
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		return fsSyncer{d}, nil
	}
	return nil, errors.Join(errors.ErrUnsupported, d.Close())
}

// syncfsTells: before Linux 5.8, syncfs didn't tell of failures.
func syncfsTells() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 5 || major == 5 && minor >= 8)
}

func (s fsSyncer) SyncFS() error {
	for {
		switch err := unix.Syncfs(int(s.Fd())); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return &os.PathError{Op: "syncfs", Path: s.Name(), Err: err}
		}
	}
}
