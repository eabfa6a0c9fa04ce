package main

import "syscall"

// apart keeps a Ctrl-C at the terminal, which reaches a whole process group,
// from a server that is still needed then.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
