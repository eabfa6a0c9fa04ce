package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
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

// On a terminal there is a line that says how far the pipeline is.
func TestProgressOnATerminal(t *testing.T) {
	server := testserver.Mongotest(t)
	master, terminal := openPTY(t)
	cmd := exec.Command(testbinary.Path(t), "run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:out")
	cmd.Dir, cmd.Stderr, cmd.Env = t.TempDir(), terminal, append(os.Environ(), "NO_COLOR=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	terminal.Close()
	var seen bytes.Buffer
	await := func(pattern string) {
		t.Helper()
		re, buf := regexp.MustCompile(pattern), make([]byte, 4096)
		for !re.Match(seen.Bytes()) {
			n, err := master.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("it never showed %s: %v\n%q", pattern, err, seen.String())
			}
		}
	}
	await(`ready  `)
	insertBig(t, server, 1500)
	await(`\r\x1b\[K1,500 events · [\d,]+/s · (lag|idle).* · last checkpoint \d`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	await(`stopped  `)
	rest, _ := io.ReadAll(master) // it fails when the terminal is gone, which is the end
	seen.Write(rest)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, seen.String())
	}
	after := seen.String()[strings.Index(seen.String(), "stopped  "):]
	if strings.Contains(after, "events/s") || strings.Contains(after, " · ") {
		t.Errorf("the line is left standing: %q", after)
	}
}
