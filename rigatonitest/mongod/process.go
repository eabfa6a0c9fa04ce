package mongod

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A process is a child that doesn't outlive this process (on Linux).
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // its result; after done
	cmd  *exec.Cmd
}

// startProcess starts cmd in a process group of its own, so that a Ctrl-C at
// the terminal reaches only this program.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal at a parent's death is sent when the thread that started
		// the child ends, not the process: this thread must live as long as the
		// child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr = childAttr()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// end sends sig and waits until the process has ended. A suspended process is
// resumed, because otherwise it would not get the signal.
func (p *process) end(sig syscall.Signal, timeout time.Duration) error {
	// Through cmd.Process, which knows whether the process has been waited for:
	// kill by id might hit another process that has reused the id.
	err := errors.Join(p.cmd.Process.Signal(sig), p.cmd.Process.Signal(sigCont))
	select {
	case <-p.done:
		return nil
	case <-time.After(timeout):
		return errors.Join(err, fmt.Errorf("process %d is still there %v after %v", p.pid, timeout, sig))
	}
}

// exitCode returns -1 for a process that a signal ended.
func (p *process) exitCode() int { return p.cmd.ProcessState.ExitCode() }
