package pgserver

import (
	"os"
	"os/exec"
	"syscall"
)

// nobody is the user that the server runs as where the tests run as root.
const nobody = 65534

// asServer makes the kernel kill the process when this one ends, for whatever
// reason, and runs it as another user than root.
func asServer(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// giveAway gives the directory to the user that the server runs as.
func giveAway(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(dir, nobody, nobody)
}
