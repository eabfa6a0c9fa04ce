//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C reaches every process of the terminal's group at once. The server must
// not be one of them, or the demo might take it for one that has died.
func TestDemoOnCtrlC(t *testing.T) {
	d := startDemo(t)
	pgid, err := syscall.Getpgid(d.child.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if pgid != d.child.cmd.Process.Pid {
		t.Fatal("the demo has no group of its own")
	}
	if server, err := syscall.Getpgid(atoi(t, d.pid)); err != nil || server == pgid {
		t.Errorf("the server is in the demo's group, %d (%v)", server, err)
	}
	if err := syscall.Kill(-pgid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.exit(); code != exitInterrupted || strings.Contains(strings.Join(d.child.said, "\n"), "mongotest") {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(d.child.said, "\n"))
	}
	wantNoSuchProcess(t, d.pid)
	wantEmpty(t, d.tmp)
}
