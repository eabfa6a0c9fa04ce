package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Process is one process of the pipeline.
type Process struct {
	N       int // 1 for the first
	Started time.Time
	Ended   time.Time // zero while it runs
	Killed  bool      // ended by us, with SIGKILL
	Exit    string    // how it ended: "SIGKILL", "exit status 0"

	// Checkpoints are those in the store when it was started, by stream.
	Checkpoints map[string]state.Checkpoint
	// Resumed counts the events that those checkpoints cover, Before those that had
	// been delivered when it was started, and Reached those by its end (or by now).
	// All count each event once.
	Resumed, Before, Reached int
	// Lines is how many events it delivered, Again how many of them were repeats.
	Lines, Again int
	// Streaming reports whether its streams were open.
	Streaming bool
}

// A child is a running process of the pipeline.
type child struct {
	cmd       *exec.Cmd
	streaming chan struct{} // closed when its streams are open
	exited    chan struct{} // closed when it has ended
	err       error         // of Wait
	log       logTail
}

// start runs the pipeline. On Linux it is killed when the thread that started it
// ends, and so with this process, even if that is killed.
func start(binary string, args []string) (*child, error) {
	p := &child{cmd: exec.Command(binary, args...), streaming: make(chan struct{}), exited: make(chan struct{})}
	dieWithParent(p.cmd)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.watch(stderr)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// watch reads the child's messages until it has closed them.
func (p *child) watch(stderr io.Reader) {
	s := bufio.NewScanner(stderr)
	s.Buffer(nil, 1<<20)
	for seen := false; s.Scan(); {
		p.log.add(s.Bytes())
		var record struct {
			Msg string `json:"msg"`
		}
		if !seen && json.Unmarshal(s.Bytes(), &record) == nil && record.Msg == "ready" {
			seen = true
			close(p.streaming)
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // a line that was too long must not block the child
}

func (p *child) isStreaming() bool {
	select {
	case <-p.streaming:
		return true
	default:
		return false
	}
}

// kill ends the process with SIGKILL and returns when it is gone.
func (p *child) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// stop ends the process with SIGTERM, and reports how it ended. It waits until the
// streams are open: a process that was just started has no signal handler yet.
func (p *child) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	select {
	case <-p.streaming:
	case <-p.exited:
	case <-ctx.Done():
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.kill()
		return fmt.Errorf("asking the pipeline to stop: %w", err)
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("the pipeline did not stop cleanly: %w\n%s", p.err, p.log.String())
		}
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("the pipeline did not stop when asked to: %w\n%s", ctx.Err(), p.log.String())
	}
}

// code is the exit code, -1 if it was killed.
func (p *child) code() int { return p.cmd.ProcessState.ExitCode() }

// logTail keeps the last lines of a log.
type logTail struct {
	mu    sync.Mutex
	lines []string
}

func (t *logTail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, string(bytes.TrimSpace(line)))
	if n := len(t.lines) - 40; n > 0 {
		t.lines = t.lines[n:]
	}
}

func (t *logTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
