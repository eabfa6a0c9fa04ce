package mongod

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

const sigStop, sigCont = syscall.SIGSTOP, syscall.SIGCONT

func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// apartAttr is for a child that outlives this process.
func apartAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitStop waits until a child that was sent SIGSTOP has stopped: its threads
// may run until the one that handles the signal is scheduled.
func awaitStop(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
