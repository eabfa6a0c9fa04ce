package ndjson

import "syscall"

// SYNC_FILE_RANGE_WRITE of <fcntl.h>: begin to write, and don't wait.
const rangeWrite = 2

func (f osFile) startFlush(from, size int64) {
	c, err := f.SyscallConn()
	if err != nil {
		return
	}
	// An error is Sync's to report: this call neither waits for writes nor takes their
	// errors.
	_ = c.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), from, size, rangeWrite) })
}
