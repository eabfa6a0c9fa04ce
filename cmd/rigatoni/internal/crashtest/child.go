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
	"sync/atomic"
	"syscall"
	"time"
)

// A Child is a process of the pipeline, "rigatoni run" with --log-format json.
type Child struct {
	cmd    *exec.Cmd
	spoke  chan struct{} // closed at its first message
	ready  chan struct{} // closed when its streams are open
	exited chan struct{} // closed when it has ended
	owner  atomic.Bool
	err    error // of Wait
	log    logTail
}

// Start starts a process. On Linux it is killed when the thread that started it
// ends, and so with this process, even if that is killed.
func Start(binary string, args []string) (*Child, error) {
	p := &Child{cmd: exec.Command(binary, args...), spoke: make(chan struct{}), ready: make(chan struct{}), exited: make(chan struct{})}
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

// watch reads the process's messages until it has closed them.
func (p *Child) watch(stderr io.Reader) {
	s := bufio.NewScanner(stderr)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.log.add(s.Bytes())
		var record struct {
			Msg string `json:"msg"`
		}
		if json.Unmarshal(s.Bytes(), &record) == nil {
			p.note(record.Msg)
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // a line that was too long must not block the process
}

// note notes what a message says about the process.
func (p *Child) note(msg string) {
	closeOnce(p.spoke)
	switch {
	case msg == "ready":
		closeOnce(p.ready)
	case strings.HasPrefix(msg, "streaming"):
		p.owner.Store(true)
	case strings.HasPrefix(msg, "waiting for the lease"), strings.HasPrefix(msg, "lease lost"):
		p.owner.Store(false)
	}
}

// closeOnce closes a channel that only the caller's goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// WasReady reports whether its streams have been open.
func (p *Child) WasReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// IsOwner reports whether a stream is open now, as far as its messages say.
func (p *Child) IsOwner() bool { return p.owner.Load() }

// Exited is closed when the process has ended.
func (p *Child) Exited() <-chan struct{} { return p.exited }

// Code is the exit code of a process that has ended, -1 if it was killed.
func (p *Child) Code() int { return p.cmd.ProcessState.ExitCode() }

// Log is the last of its messages.
func (p *Child) Log() string { return p.log.String() }

// Signal sends a signal to a process that may have ended.
func (p *Child) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Child) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// Stop ends the process with SIGTERM, and reports how it ended. It waits for a
// message: a process that was just started has no signal handler yet.
func (p *Child) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	select {
	case <-p.spoke:
	case <-p.exited:
	case <-ctx.Done():
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		p.Kill()
		return fmt.Errorf("asking the pipeline to stop: %w", err)
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("the pipeline did not stop cleanly: %w\n%s", p.err, p.Log())
		}
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("the pipeline did not stop when asked to: %w\n%s", ctx.Err(), p.Log())
	}
}

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
