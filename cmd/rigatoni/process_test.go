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
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A child is a run of the command whose messages are read as they come.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *bufio.Scanner
	said   []string
}

func startChild(t *testing.T, stdout io.Writer, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(testbinary.Path(t), args...)}
	c.cmd.Dir, c.cmd.Stdout = t.TempDir(), stdout
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

func insertBig(t *testing.T, db *mongod.Database, n int) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(db.URI))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	docs := make([]any, n)
	for i := range docs {
		docs[i] = bson.D{{Key: "_id", Value: i}, {Key: "text", Value: strings.Repeat("x", 1000)}}
	}
	if _, err := client.Database(db.Name).Collection("big").InsertMany(context.Background(), docs); err != nil {
		t.Fatal(err)
	}
}

func TestSIGTERMStopsCleanly(t *testing.T) {
	db := mongod.ForTest(t)
	c := startChild(t, nil, "run", "--source", db.URI, "--database", db.Name, "--store", "file:state", "--to", "ndjson:out")
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
	db := mongod.ForTest(t)
	r, w := io.Pipe() // exec copies to it, and blocks when nobody reads
	defer r.Close()
	c := startChild(t, w, "run", "--source", db.URI, "--database", db.Name, "--store", "file:state", "--to", "ndjson:-", "--grace-time", "5m")
	c.await("msg=ready")
	insertBig(t, db, 2000) // much more than a pipe holds
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM)
	c.await("stopping")
	c.signal(syscall.SIGINT)
	go func() { _, _ = io.Copy(io.Discard, r) }() // so that Wait's copying ends
	if code := c.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(c.said, "\n"))
	}
}

func TestWaitingForALeaseCanBeStopped(t *testing.T) {
	db := mongod.ForTest(t)
	state := "file:" + t.TempDir()
	args := []string{"run", "--source", db.URI, "--database", db.Name, "--store", state, "--to", "ndjson:out"}
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

func TestInterruptedDemo(t *testing.T) {
	db := mongod.ForTest(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	out, w := io.Pipe()
	c := startChild(t, w, "demo", "--source", db.URI)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "the start") { // the first life's line
	}
	c.signal(syscall.SIGINT)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if code := c.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(c.said, "\n"))
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The demo, short: several lives, nothing lost, and nothing left behind.
func TestDemo(t *testing.T) {
	db := mongod.ForTest(t)
	cmd := exec.Command(testbinary.Path(t), "demo", "--source", db.URI, "--events", "1200", "--kills", "3", "--seed", "5")
	tmp := t.TempDir()
	cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"seed 5", "the start", "✗", "stop 1,200", "written       1,200", "arrived       1,200", "lost              0   nothing was lost",
		"The checkpoint", "resume token", "demo --keep --seed 5",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it doesn't say %q:\n%s", want, text)
		}
	}
	if strings.ContainsAny(string(text), "\x1b\r") {
		t.Error("there are control characters in output that is no terminal's")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(db.URI))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	names, err := client.ListDatabaseNames(context.Background(), bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^rigatoni_demo_5_"}}}})
	if err != nil || len(names) > 0 {
		t.Errorf("databases left behind: %v, %v", names, err)
	}
}
