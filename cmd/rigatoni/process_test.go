package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// A child is a run of the command whose messages are read as they come.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *bufio.Scanner
	said   []string
	out    *os.File // the end of its standard output that is read, if a test does
}

func (c *child) closeOut() { c.out.Close() }

func startChild(t *testing.T, stdout io.Writer, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(testbinary.Path(t), args...)}
	c.cmd.Dir, c.cmd.Stdout, c.cmd.SysProcAttr = t.TempDir(), stdout, apart()
	pipe, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it has ended, or must
	c.stderr = bufio.NewScanner(pipe)
	return c
}

// startReading is startChild for those who read its standard output.
func startReading(t *testing.T, args ...string) (*child, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	c := startChild(t, w, args...)
	w.Close() // so that the child's end is the output's
	c.out = r
	return c, bufio.NewReader(r)
}

// readLine reads standard output up to a line with the text.
func (c *child) readLine(out *bufio.Reader, text string) string {
	c.t.Helper()
	timer := time.AfterFunc(deadline, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			c.t.Fatalf("it never wrote %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return line
		}
	}
}

// await reads messages until one has the text.
func (c *child) await(text string) {
	c.t.Helper()
	timer := time.AfterFunc(deadline, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	for c.stderr.Scan() {
		c.said = append(c.said, c.stderr.Text())
		if strings.Contains(c.stderr.Text(), text) {
			return
		}
	}
	c.t.Fatalf("it never said %q; it said:\n%s", text, strings.Join(c.said, "\n"))
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (c *child) exit() int {
	timer := time.AfterFunc(deadline, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	for c.stderr.Scan() {
		c.said = append(c.said, c.stderr.Text())
	}
	_ = c.cmd.Wait() // the code says it
	return c.cmd.ProcessState.ExitCode()
}

func insertBig(t *testing.T, server *testserver.Server, n int) {
	t.Helper()
	docs := make([]any, n)
	for i := range docs {
		docs[i] = bson.D{{Key: "_id", Value: i}, {Key: "text", Value: strings.Repeat("x", 1000)}}
	}
	if _, err := server.DB.Collection("big").InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
}

func TestSIGTERMStopsCleanly(t *testing.T) {
	server := testserver.Mongotest(t)
	c := startChild(t, nil, "run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:out")
	c.await("msg=ready")
	c.signal(syscall.SIGTERM)
	if code := c.exit(); code != exitOK {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, strings.Join(c.said, "\n"))
	}
	if last := c.said[len(c.said)-1]; !strings.Contains(last, "msg=stopped") || !strings.Contains(last, "terminated") {
		t.Errorf("its last words were %s", last)
	}
}

// A stop may wait for a destination; a second signal doesn't.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	server := testserver.Mongotest(t)
	r, w := io.Pipe() // exec copies to it, and blocks when nobody reads
	defer r.Close()
	c := startChild(t, w, "run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:-", "--grace-time", "5m")
	c.await("msg=ready")
	insertBig(t, server, 2000) // much more than a pipe holds
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM)
	c.await("stopping")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // as a user does who sees that it goes on
		for backoff.Wait(ctx, sameRequest/5) == nil {
			_ = c.cmd.Process.Signal(syscall.SIGINT)
		}
	}()
	c.await("stopped at once by a second signal")
	go func() { _, _ = io.Copy(io.Discard, r) }() // so that Wait's copying ends
	if code := c.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(c.said, "\n"))
	}
}

func TestWaitingForALeaseCanBeStopped(t *testing.T) {
	server := testserver.Mongotest(t)
	state := "file:" + t.TempDir()
	args := []string{"run", "--source", server.URI, "--database", server.DB.Name(), "--store", state, "--to", "ndjson:out"}
	holder := startChild(t, nil, args...)
	holder.await("msg=ready")
	c := startChild(t, nil, append(args, "--lease-wait", "1h")...)
	c.await("waiting for the lease")
	c.signal(syscall.SIGINT)
	if code := c.exit(); code != exitOK {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, strings.Join(c.said, "\n"))
	}
	holder.signal(syscall.SIGINT)
	if code := holder.exit(); code != exitOK {
		t.Errorf("the holder ended with %d", code)
	}
}

// A lease that ran out because the store was away is held by nobody else, and to wait
// for its end would be the wrong advice.
func TestAStopWhileTheStoreIsAway(t *testing.T) {
	server := testserver.Mongotest(t)
	redis := redisserver.Start(t, nil)
	c := startChild(t, nil, "run", "--source", server.URI, "--database", server.DB.Name(), "--to", "ndjson:out",
		"--store", redis.URL()+"?connect-timeout=200ms&max-retries=off", "--lease-ttl", "1s", "--save-interval", "1h")
	c.await("msg=ready")
	insertBig(t, server, 1)
	if err := redis.Close(); err != nil {
		t.Fatal(err)
	}
	c.await("lease lost")
	c.signal(syscall.SIGTERM)
	if code := c.exit(); code != exitUnreachable {
		t.Errorf("exit code %d, want %d:\n%s", code, exitUnreachable, strings.Join(c.said, "\n"))
	}
	if said := strings.Join(c.said, "\n"); strings.Contains(said, "--lease-wait") {
		t.Errorf("wrong advice:\n%s", said)
	}
}
