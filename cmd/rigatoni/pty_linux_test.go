package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/state"
)

// openPTY opens a terminal: what a process writes to it is read from master.
func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// A screen is a terminal that a run of the command writes to.
type screen struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	seen   bytes.Buffer
}

// startOnTerminal runs the command with its standard error on a terminal, and its
// standard output as well if both is true. env overrides the environment.
func startOnTerminal(t *testing.T, both bool, env []string, args ...string) *screen {
	t.Helper()
	master, terminal := openPTY(t)
	s := &screen{t: t, master: master, cmd: exec.Command(testbinary.Path(t), args...)}
	s.cmd.Dir, s.cmd.Stderr = t.TempDir(), terminal
	s.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	if both {
		s.cmd.Stdout = terminal
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(deadline, func() { _ = s.cmd.Process.Kill() })
	t.Cleanup(func() { killer.Stop(); _ = s.cmd.Process.Kill() })
	terminal.Close()
	return s
}

// await reads what is shown until it matches.
func (s *screen) await(pattern string) {
	s.t.Helper()
	re, buf := regexp.MustCompile(pattern), make([]byte, 4096)
	for !re.Match(s.seen.Bytes()) {
		n, err := s.master.Read(buf)
		s.seen.Write(buf[:n])
		if err != nil {
			s.t.Fatalf("it never showed %s: %v\n%q", pattern, err, s.seen.String())
		}
	}
}

// end stops the command and returns all that was shown.
func (s *screen) end(sig syscall.Signal, code int) string {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	rest, _ := io.ReadAll(s.master) // it fails when the terminal is gone, which is the end
	s.seen.Write(rest)
	_ = s.cmd.Wait() // the code says it
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d\n%s", got, code, s.seen.String())
	}
	return s.seen.String()
}

// On a terminal there is a line that says how far the pipeline is, and the messages are
// short.
func TestProgressOnATerminal(t *testing.T) {
	server := testserver.Mongotest(t)
	s := startOnTerminal(t, false, nil, runArgs(server, "--to", "ndjson:out")...)
	s.await(`\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m ready`)
	insertBig(t, server, 1500)
	s.await(`\r\x1b\[K1,500 events · [\d,]+/s · (lag|idle).* · last checkpoint \d`)
	all := s.end(syscall.SIGINT, exitOK)
	after := all[strings.Index(all, "stopped"):]
	if strings.Contains(after, "events/s") || strings.Contains(after, " · ") {
		t.Errorf("the line is left standing: %q", after)
	}
}

// No colour where NO_COLOR forbids it, no control sequence where the terminal knows
// none, and no status line where it is switched off or events share the terminal.
func TestTerminalsWithoutAStatusLine(t *testing.T) {
	for name, c := range map[string]struct {
		both bool
		env  []string
		args []string
		want string // all that may begin with an escape
	}{
		"NO_COLOR":             {args: []string{"--to", "ndjson:out"}, env: []string{"NO_COLOR=1"}, want: `\x1b\[K`},
		"dumb":                 {args: []string{"--to", "ndjson:out"}, env: []string{"TERM=dumb"}},
		"off":                  {args: []string{"--to", "ndjson:out", "--progress-interval", "off"}, env: []string{"NO_COLOR=1"}},
		"events on the screen": {both: true, args: []string{"--to", "ndjson:-"}, env: []string{"NO_COLOR=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.Mongotest(t)
			s := startOnTerminal(t, c.both, c.env, runArgs(server, c.args...)...)
			s.await(` ready`)
			insertBig(t, server, 1)
			if c.both {
				s.await(`"_id":0}`)
			} else {
				waitForText(t, filepath.Join(s.cmd.Dir, "out", "*"), `"_id":0}`)
			}
			all := s.end(syscall.SIGTERM, exitOK)
			if c.want != "" {
				all = regexp.MustCompile(c.want).ReplaceAllString(all, "")
			}
			if strings.Contains(all, "\x1b") {
				t.Errorf("control sequences in %q", all)
			}
		})
	}
}

// While it waits for a lease, the terminal shows who holds it. A name can't move the
// cursor, or forge a line.
func TestNamesOnATerminal(t *testing.T) {
	server := testserver.Mongotest(t)
	dir := t.TempDir()
	store, err := backend.OpenStore(t.Context(), "file:"+dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := state.Hold(t.Context(), store, server.DB.Name(), &state.HoldOptions{Owner: "me\x1b]0;x\x07\u009b\u202e\nrigatoni: forged"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(lease.Release(context.Background()), state.Close(store)); err != nil {
			t.Error(err)
		}
	}()
	s := startOnTerminal(t, false, []string{"NO_COLOR=1"}, runArgs(server, "--to", "ndjson:out", "--store", "file:"+dir, "--lease-wait", "1h")...)
	s.await(`waiting for the lease, which "me\\x1b.* holds until it ends`)
	all := s.end(syscall.SIGTERM, exitOK)
	s = startOnTerminal(t, false, []string{"NO_COLOR=1"}, runArgs(server, "--to", "ndjson:out", "--store", "file:"+dir)...)
	s.await(`rigatoni: `)
	all += s.end(syscall.SIGTERM, exitHeld)
	all = strings.ReplaceAll(all, eraseLine, "")
	if strings.ContainsAny(all, "\x1b\x07\u009b\u202e") || regexp.MustCompile(`(?m)^rigatoni: forged`).MatchString(all) {
		t.Errorf("raw control characters: %q", all)
	}
}
