//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// startShell runs the command as a shell does that is given redirections and the like:
// RUN in the script stands for the command with a pipeline of the server.
func startShell(t *testing.T, server *testserver.Server, script string) *child {
	t.Helper()
	run := "'" + testbinary.Path(t) + "' run --source '" + server.URI + "' --database " + server.DB.Name() + " --store file:state"
	c := &child{t: t, cmd: exec.Command("sh", "-c", strings.ReplaceAll(script, "RUN", run))}
	c.cmd.Dir, c.cmd.SysProcAttr = t.TempDir(), apart()
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

func runArgs(server *testserver.Server, more ...string) []string {
	return append([]string{"run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state"}, more...)
}

func (c *child) wantExit(want int, saying string) {
	c.t.Helper()
	code := c.exit()
	if said := strings.Join(c.said, "\n"); code != want || !strings.Contains(said, saying) {
		c.t.Errorf("exit code %d, want %d, and %q in:\n%s", code, want, saying, said)
	}
}

// SIGHUP is what a process gets whose terminal goes away.
func TestSIGHUPStopsCleanly(t *testing.T) {
	server := testserver.Mongotest(t)
	c := startShell(t, server, "exec RUN --to ndjson:out")
	c.await("msg=ready")
	c.signal(syscall.SIGHUP)
	c.signal(syscall.SIGHUP)
	c.wantExit(exitOK, "msg=stopped")
}

func TestNohup(t *testing.T) {
	server := testserver.Mongotest(t)
	c := startShell(t, server, "trap '' HUP; exec RUN --to ndjson:out --progress-interval 10ms")
	c.await("msg=ready")
	c.signal(syscall.SIGHUP)
	insertBig(t, server, 1)
	c.await("msg=progress events=1")
	c.signal(syscall.SIGTERM)
	c.wantExit(exitOK, "msg=stopped")
}

// timeout(1) signals the process and then its group, in which the process is.
func TestTimeoutSignalsTwice(t *testing.T) {
	server := testserver.Mongotest(t)
	c := startShell(t, server, "exec RUN --to ndjson:out")
	c.await("msg=ready")
	for range 5 {
		c.signal(syscall.SIGTERM)
	}
	c.wantExit(exitOK, "msg=stopped")
}

// A process that waits for something is stopped at once, and cleanly: it has nothing
// to lose.
func TestStopWhileOpening(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	server := testserver.Mongotest(t)
	for name, args := range map[string][]string{
		"store":  {"--source", server.URI, "--store", "redis://" + silent.Addr().String() + "/0?connect-timeout=10m"},
		"server": {"--source", "mongodb://" + silent.Addr().String() + "/?directConnection=true", "--store", "memory:"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startChild(t, nil, append([]string{"run", "--database", "d", "--to", "ndjson:out"}, args...)...)
			<-accepted
			begin := time.Now()
			c.signal(syscall.SIGTERM)
			c.wantExit(exitOK, "stopped")
			if took := time.Since(begin); took > 25*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// Nobody reads the messages any more: the pipeline goes on.
func TestClosedStandardError(t *testing.T) {
	for name, redirection := range map[string]string{"whose reader ends": "", "from the start": " 2>&-"} {
		t.Run(name, func(t *testing.T) {
			server := testserver.Mongotest(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			c := &child{t: t, cmd: exec.Command("sh", "-c", `exec "$@"`+redirection, "sh", testbinary.Path(t), "run", "--source", server.URI,
				"--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:out", "--log-level", "debug", "--progress-interval", "1ms")}
			c.cmd.Dir, c.cmd.Stderr, c.stderr = t.TempDir(), w, bufio.NewScanner(r)
			if err := c.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.cmd.Process.Kill() })
			w.Close()
			if redirection == "" {
				c.await("msg=progress")
			} else {
				waitForText(t, filepath.Join(c.cmd.Dir, "state", "*"), `"token"`)
			}
			r.Close()
			insertBig(t, server, 3)
			waitForText(t, filepath.Join(c.cmd.Dir, "out", "*"), `"_id":2}`)
			c.signal(syscall.SIGTERM)
			c.wantExit(exitOK, "")
		})
	}
}

// Where events go to standard output, one that takes none is refused at the start.
func TestClosedStandardOutput(t *testing.T) {
	server := testserver.Mongotest(t)
	for name, c := range map[string]struct {
		script string
		code   int
		says   string
	}{
		"closed":       {"exec RUN --to ndjson:- >&-", exitUsage, "--to ndjson:-: standard output is closed"},
		"reading only": {"exec RUN --to ndjson:- 1</dev/null", exitUsage, "open for reading only"},
	} {
		t.Run(name, func(t *testing.T) { startShell(t, server, c.script).wantExit(c.code, c.says) })
	}
	t.Run("no reader", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		c := startChild(t, w, "run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:-")
		w.Close()
		c.wantExit(exitUnreachable, "nobody reads standard output")
	})
	t.Run("on purpose", func(t *testing.T) {
		c := startShell(t, server, "exec RUN --to ndjson:- >/dev/null")
		c.await("msg=ready")
		c.signal(syscall.SIGTERM)
		c.wantExit(exitOK, "msg=stopped")
	})
	t.Run("not used", func(t *testing.T) {
		c := startShell(t, server, "exec RUN --to ndjson:out >&-")
		c.await("msg=ready")
		c.signal(syscall.SIGTERM)
		c.wantExit(exitOK, "msg=stopped")
	})
}

// The reader of standard output ends: no event is refused for that, and what it has not
// read is redelivered.
func TestReaderOfStandardOutputEnds(t *testing.T) {
	server := testserver.Mongotest(t)
	c, out := startReading(t, "run", "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:-", "--dead-letters", "dead")
	c.await("msg=ready")
	insertBig(t, server, 1)
	c.readLine(out, `"_id":0}`)
	c.closeOut()
	if _, err := server.DB.Collection("big").DeleteMany(t.Context(), struct{}{}); err != nil {
		t.Fatal(err)
	}
	c.wantExit(exitUnreachable, "nobody reads the output any more")
	if letters, _ := filepath.Glob(filepath.Join(c.cmd.Dir, "dead", "*.ndjson*")); len(letters) > 0 {
		text, _ := os.ReadFile(letters[0])
		if len(text) > 0 {
			t.Errorf("dead letters: %s", text)
		}
	}
}

// With --log-format json every line is JSON, to the last.
func TestEveryLineIsJSON(t *testing.T) {
	server := testserver.Mongotest(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("log-format: json\nsource: mongodb://h\ndatabase: d\nstore: 'memory:'\nto: kafka:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := "file:" + t.TempDir()
	holder := startChild(t, nil, "run", "--source", server.URI, "--database", "d", "--store", state, "--to", "ndjson:out")
	holder.await("msg=ready")
	base := []string{"run", "--log-format", "json", "--database", "d", "--store", "memory:", "--to", "ndjson:out"}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"unknown flag": {[]string{"run", "--log-format=json", "--sauce", "x"}, exitUsage},
		"mistakes":     {[]string{"run", "--log-format", "json", "--save-interval", "1"}, exitUsage},
		"a file's":     {[]string{"run", file}, exitUsage},
		"unreachable":  {append(base, "--source", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"), exitUnreachable},
		"held":         {append(base, "--source", server.URI, "--store", state), exitHeld},
	} {
		t.Run(name, func(t *testing.T) {
			child := startChild(t, nil, c.args...)
			code := child.exit()
			var last struct {
				Level, Err string
				Code       int `json:"exit_code"`
			}
			for _, line := range child.said {
				if err := json.Unmarshal([]byte(line), &last); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
			if code != c.code || last.Code != c.code || last.Level != "ERROR" || last.Err == "" {
				t.Errorf("exit code %d, want %d; the last line is %+v", code, c.code, last)
			}
		})
	}
	t.Run("a second signal", func(t *testing.T) {
		r, w := io.Pipe()
		defer r.Close()
		c := startChild(t, w, "run", "--log-format", "json", "--source", server.URI, "--database", server.DB.Name(), "--store", "memory:", "--to", "ndjson:-", "--grace-time", "5m")
		c.await(`"ready"`)
		insertBig(t, server, 2000)
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		c.signal(syscall.SIGINT)
		c.await(`"stopping"`)
		c.signal(syscall.SIGINT)
		c.await(`"stopped at once by a second signal`)
		go func() { _, _ = io.Copy(io.Discard, r) }() // so that Wait's copying ends
		c.wantExit(exitInterrupted, "")
		for _, line := range c.said {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
	})
}

// waitForText waits until a file that a pattern matches has a text.
func waitForText(t *testing.T, pattern, text string) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if content, err := os.ReadFile(f); err == nil && strings.Contains(string(content), text) {
				return
			}
		}
	}
	t.Fatalf("no file %s got the text %q", pattern, text)
}

// A crash ends by SIGABRT: Go's exit code for a panic, 2, would say that the command
// line is wrong and that no restart helps. SIGQUIT ends the process in the same way.
func TestCrashIsNoUsageError(t *testing.T) {
	server := testserver.Mongotest(t)
	c := startShell(t, server, "exec RUN --to ndjson:out")
	c.await("msg=ready")
	c.signal(syscall.SIGQUIT)
	c.exit()
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("it ended with %v", c.cmd.ProcessState)
	}
}
