package mongod

import "syscall"

const sigStop, sigCont = syscall.SIGSTOP, syscall.SIGCONT

func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// apartAttr is for a child that shall outlive this process.
func apartAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
