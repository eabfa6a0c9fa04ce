//go:build unix

package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// The service manager receives when the pipeline is ready, that it lives, and that it stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	await := func(want ...string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(deadline)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("%q never came: %v", want, err)
			}
			lines, found := "\n"+string(buf[:n])+"\n", 0
			for _, w := range want {
				if strings.Contains(lines, "\n"+w) {
					found++
				}
			}
			if found == len(want) {
				return
			}
			if want[0] == "READY=1" && strings.Contains(lines, "READY=1") {
				t.Fatalf("%q came without %q", lines, want)
			}
		}
	}
	server := testserver.Mongotest(t)
	state := t.TempDir()
	holder := startChild(t, nil, runArgs(server, "--to", "ndjson:out", "--store", "file:"+state)...)
	holder.await("msg=ready")

	// A standby isn't ready, and asks for more time.
	c := startShell(t, server, "NOTIFY_SOCKET="+path+" WATCHDOG_USEC=300000 exec RUN --to ndjson:out --store 'file:"+state+"' --lease-wait 1h")
	await("EXTEND_TIMEOUT_USEC=300000", "WATCHDOG=1", `STATUS=waiting for the lease, which "`)
	holder.signal(syscall.SIGTERM)
	if code := holder.exit(); code != exitOK {
		t.Fatalf("the holder ended with %d", code)
	}
	await("READY=1", "WATCHDOG=1")
	insertBig(t, server, 3)
	await("WATCHDOG=1\n", "STATUS=3 events · ")
	c.signal(syscall.SIGTERM)
	await("STOPPING=1")
	c.wantExit(exitOK, "msg=stopped")
}
