//go:build unix && !linux

package mongod

import "syscall"

const sigStop, sigCont = syscall.SIGSTOP, syscall.SIGCONT

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func apartAttr() *syscall.SysProcAttr { return childAttr() }

func awaitStop(int) error { return nil }
