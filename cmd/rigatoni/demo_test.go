package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// ownServer is how a demo names the mongotest that it has started.
var ownServer = regexp.MustCompile(`(?m)^  server    mongotest, .* process (\d+) \(mongodb://(\S+)/\?replicaSet=rs0\)$`)

// runDemo runs a short demo to its end: several processes, nothing lost, and no
// files left behind.
func runDemo(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testbinary.Path(t), append([]string{"demo", "--events", "1200", "--kills", "3", "--seed", "5"}, args...)...)
	tmp := t.TempDir()
	cmd.Env = append(append(cmd.Environ(), "TMPDIR="+tmp), env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"seed 5", "the start", "✗", "stop 1,200", "written       1,200", "finished      1,200", "twice             0", "lost              0   nothing was lost",
		"The checkpoint", "resume token", "demo --seed 5",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it doesn't say %q:\n%s", want, text)
		}
	}
	if strings.ContainsAny(string(text), "\x1b\r") {
		t.Error("there are control characters in output that is no terminal's")
	}
	wantEmpty(t, tmp)
	return string(text)
}

// runSnapshotDemo is runDemo with documents to copy.
func runSnapshotDemo(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testbinary.Path(t), append([]string{"demo", "--snapshot", "--documents", "5000", "--events", "1000", "--kills", "3", "--seed", "5"}, args...)...)
	tmp := t.TempDir()
	cmd.Env = append(append(cmd.Environ(), "TMPDIR="+tmp), env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"seed 5", "5,000 documents in rigatoni_demo_5_", "the start", "✗", "copied", "written       1,000", "twice             0", "lost              0   nothing was lost", "demo --seed 5 --snapshot",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it doesn't say %q:\n%s", want, text)
		}
	}
	count := func(row string) int {
		m := regexp.MustCompile(`(?m)^  ` + row + ` +([0-9,]+) `).FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("it has no row %q:\n%s", row, text)
		}
		return atoi(t, strings.ReplaceAll(m[1], ",", ""))
	}
	if changes, inCopy := count("changes"), count("in copy"); changes+inCopy != 1000 {
		t.Errorf("%d changes and %d in the copy are not 1000:\n%s", changes, inCopy, text)
	}
	if copied := count("copied"); copied < 4000 || copied > 6000 {
		t.Errorf("%d documents were copied:\n%s", copied, text)
	}
	wantEmpty(t, tmp)
	return string(text)
}

// Nothing needs to be installed for a copy either.
func TestSnapshotDemo(t *testing.T) {
	text := runSnapshotDemo(t, []string{"PATH=" + t.TempDir(), "HOME=" + t.TempDir(), "XDG_CACHE_HOME=" + t.TempDir()})
	server := ownServer.FindStringSubmatch(text)
	if server == nil {
		t.Fatalf("it doesn't name its server:\n%s", text)
	}
	wantNoSuchProcess(t, server[1])
}

func TestSnapshotDemoOnAMongodOfItsOwn(t *testing.T) {
	mongod.ForTest(t) // skips where there is none
	runSnapshotDemo(t, nil, "--mongod")
}

func TestDemoRefusesDocuments(t *testing.T) {
	for args, want := range map[string]string{
		"--documents 5000":            "--documents is the number of documents to copy, with --snapshot",
		"--snapshot --documents 10":   "--documents is 10; it must be from 1000 to 10000000",
		"--snapshot --documents many": "invalid argument",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), world{args: append([]string{"demo"}, strings.Fields(args)...), stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }})
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q", args, code, errs.String())
		}
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantNoSuchProcess is for a process that has been waited for.
func wantNoSuchProcess(t *testing.T, pid string) {
	t.Helper()
	id := atoi(t, pid)
	p, err := os.FindProcess(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.Signal(0)); err == nil {
		t.Errorf("process %d is still there", id)
	}
}

// The first minute: nothing is installed, not even a program on PATH.
func TestDemo(t *testing.T) {
	text := runDemo(t, []string{"PATH=" + t.TempDir(), "HOME=" + t.TempDir(), "XDG_CACHE_HOME=" + t.TempDir()})
	server := ownServer.FindStringSubmatch(text)
	if server == nil {
		t.Fatalf("it doesn't name its server:\n%s", text)
	}
	wantNoSuchProcess(t, server[1])
	for _, want := range []string{"demo --seed 5 --mongod\n", "demo --seed 5 --source 'mongodb://"} {
		if !strings.Contains(text, want) {
			t.Errorf("it doesn't say how to run on a real server (%q):\n%s", want, text)
		}
	}
}

func TestDemoOnAMongodOfItsOwn(t *testing.T) {
	mongod.ForTest(t) // skips where there is none
	text := runDemo(t, nil, "--mongod")
	server := regexp.MustCompile(`(?m)^  server    MongoDB \d+\.\d+\.\d+, started for the demo \((\S+)\)$`).FindStringSubmatch(text)
	if server == nil || filepath.Base(server[1]) != "mongod" {
		t.Errorf("it doesn't name its server:\n%s", text)
	}
	if strings.Contains(text, "mongotest") {
		t.Errorf("it speaks of mongotest:\n%s", text)
	}
}

func TestDemoOnAServerOfTheUsers(t *testing.T) {
	testserver.Both(t, func(t *testing.T, server *testserver.Server) {
		text := runDemo(t, nil, "--source", server.URI)
		if want := "  server    " + config.Redact(server.URI) + "\n"; !strings.Contains(text, want) || strings.Contains(text, "--mongod") {
			t.Errorf("it doesn't say %q, or proposes another server:\n%s", want, text)
		}
		wantNoDemoDatabase(t, server)
	})
}

func wantNoDemoDatabase(t *testing.T, server *testserver.Server) {
	t.Helper()
	names, err := server.Client.ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^rigatoni_demo_"}}}})
	if err != nil || len(names) > 0 {
		t.Errorf("databases left behind: %v, %v", names, err)
	}
}

// A runningDemo is one whose first process is over or under way.
type runningDemo struct {
	child  *child
	out    io.Reader
	pid    string // of its mongotest
	server string // and its address
	tmp    string
}

func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	testbinary.Path(t) // is built outside of tmp
	d := &runningDemo{tmp: t.TempDir()}
	t.Setenv("TMPDIR", d.tmp)
	c, out := startReading(t, append([]string{"demo"}, args...)...)
	if line := ownServer.FindStringSubmatch(strings.TrimSuffix(c.readLine(out, "  server  "), "\n")); line != nil {
		d.pid, d.server = line[1], line[2]
	}
	c.readLine(out, "the start") // the first process's line, when it is over
	d.child, d.out = c, out
	return d
}

// exit reads what the demo writes until it ends.
func (d *runningDemo) exit() int {
	go func() { _, _ = io.Copy(io.Discard, d.out) }()
	return d.child.exit()
}

func TestInterruptedDemo(t *testing.T) {
	d := startDemo(t)
	d.child.signal(syscall.SIGINT)
	if code := d.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(d.child.said, "\n"))
	}
	wantNoSuchProcess(t, d.pid)
	wantEmpty(t, d.tmp)
}

func TestInterruptedDemoOnAServerOfTheUsers(t *testing.T) {
	server := testserver.Mongotest(t)
	d := startDemo(t, "--source", server.URI)
	d.child.signal(syscall.SIGTERM)
	if code := d.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d:\n%s", code, exitInterrupted, strings.Join(d.child.said, "\n"))
	}
	wantNoDemoDatabase(t, server)
	wantEmpty(t, d.tmp)
}

func TestDemoWhoseServerDies(t *testing.T) {
	d := startDemo(t)
	p, err := os.FindProcess(atoi(t, d.pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	code := d.exit()
	if took := time.Since(killed); took > 25*time.Second {
		t.Errorf("it ended %v after its server; the driver must not wait half a minute for that", took)
	}
	want := "rigatoni: the demo's server, mongotest (process " + d.pid + "), ended unexpectedly: signal: killed"
	if code != exitFailure || len(d.child.said) != 1 || d.child.said[0] != want {
		t.Errorf("exit code %d, %q\nwant %d, %q", code, d.child.said, exitFailure, want)
	}
	wantEmpty(t, d.tmp)
}

// Nothing can be tidied up by a process that is killed, but its server ends with
// it.
func TestKilledDemoLeavesNoServer(t *testing.T) {
	d := startDemo(t)
	d.child.signal(syscall.SIGKILL)
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", d.server)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatalf("the server at %s is still there", d.server)
		}
	}
}

// A server that doesn't start is the demo's failure, with the server's words.
func TestDemoWhoseServerDoesNotStart(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	code := run(t.Context(), world{args: []string{"demo"}, stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }})
	if want := "rigatoni: starting mongotest: exit status 3\n  " + noServerHere + "\n"; code != exitFailure || errs.String() != want {
		t.Errorf("exit code %d, %q\nwant %d, %q", code, errs.String(), exitFailure, want)
	}
}

// What a copy repeats may be more than what it copied: the lines stay within the bar.
func TestCopyView(t *testing.T) {
	v := newCopyView(style{}, 1000)
	for _, p := range []crashtest.Process{
		{N: 2, Resumed: 990, Lines: 0, Again: 6}, {N: 2, Resumed: 990, Lines: 10, Again: 300}, {N: 3, Resumed: 1200, Lines: 50, Again: 50, Killed: true}, {N: 4, Resumed: 0, Lines: 2000},
	} {
		if line := v.line(p, style{}); strings.Count(line, "█")+strings.Count(line, "░")+strings.Count(line, "·") > barWidth || !strings.Contains(line, " copied ") {
			t.Errorf("%+v: %s", p, line)
		}
	}
}
