//go:build unix

package main

import (
	"errors"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// crashByAbort makes a panic end the process by SIGABRT. Go's own exit code for it is
// 2, which says that the command line is wrong and that no restart helps. A core file
// would hold passwords.
func crashByAbort() {
	debug.SetTraceback("crash")
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) // without it there is a file too many
	}
}

// surviving is standard output or standard error under another number. A write to
// descriptor 1 or 2 whose reader is gone ends a Go program by SIGPIPE; to any other it
// is an error.
func surviving(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}

var (
	errStdoutClosed = errors.New("standard output is closed, or opened as /dev/null for reading and writing, as daemons do: every event would be lost. To discard events on purpose: >/dev/null")
	errNoReader     = errors.New("nobody reads standard output: the process at the other end of the pipe has ended")
)

// checkStdout refuses a standard output that takes no events. A descriptor that was
// closed when the process began is /dev/null by now: the Go runtime opens it for
// reading and writing, a shell for writing only.
func checkStdout(f *os.File) error {
	fd := int(f.Fd())
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return errStdoutClosed
	}
	var out, null unix.Stat_t
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return errors.New("standard output is open for reading only")
	}
	if unix.Fstat(fd, &out) == nil && unix.Stat(os.DevNull, &null) == nil && out.Mode&unix.S_IFMT == unix.S_IFCHR &&
		out.Rdev == null.Rdev && flags&unix.O_ACCMODE == unix.O_RDWR {
		return errStdoutClosed
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
		return errNoReader
	}
	return nil
}
