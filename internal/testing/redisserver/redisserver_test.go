//go:build linux

package redisserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
)

// ask sends one inline command and returns the first line of the reply.
func ask(t *testing.T, c net.Conn, command string) (string, error) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func dial(t *testing.T, s *redisserver.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestPassword(t *testing.T) {
	s := redisserver.Start(t, &redisserver.Options{Password: `p"w`})
	if want := "redis://:p%22w@" + s.Addr; s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	c := dial(t, s)
	for _, step := range [][2]string{{"PING", "-NOAUTH"}, {`AUTH "p\"w"`, "+OK"}, {"PING", "+PONG"}} {
		got, err := ask(t, c, step[0])
		if err != nil || !strings.HasPrefix(got, step[1]) {
			t.Errorf("%s: %q, %v, want %s", step[0], got, err, step[1])
		}
	}
}

func TestRestartKeepsAddressAndData(t *testing.T) {
	s := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes"}})
	addr := s.Addr
	if got, err := ask(t, dial(t, s), "SET a b"); err != nil || got != "+OK" {
		t.Fatal(got, err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, dial(t, s), "EXISTS a"); err != nil || got != ":1" || s.Addr != addr {
		t.Errorf("%q, %v, at %s and before at %s", got, err, s.Addr, addr)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.Addr); err == nil {
		t.Error("a stopped server takes connections")
	}
}

func TestFreezeAndThaw(t *testing.T) {
	s := redisserver.Start(t, nil)
	c := dial(t, s)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got, err := ask(t, c, "PING"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("frozen, it answered %q, %v", got, err)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != "+PONG\r\n" {
		t.Errorf("thawed, it answered %q, %v", got, err)
	}
	// Also a frozen server must end.
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestBadConfigShowsTheLog(t *testing.T) {
	redisserver.Start(t, nil) // skips where there is none
	s, err := redisserver.New(t.Context(), &redisserver.Options{Config: []string{"no-such-setting 1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("%v, %v", s, err)
	}
}

// The server of a process that is killed must not stay behind.
func TestDiesWithItsProcess(t *testing.T) {
	if os.Getenv("REDISSERVER_CHILD") != "" {
		s := redisserver.Start(t, nil)
		fmt.Printf("pid=%d\n", s.PID())
		select {}
	}
	redisserver.Start(t, nil) // skips where there is none
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithItsProcess$")
	cmd.Env = append(os.Environ(), "REDISSERVER_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "pid="))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for end := time.Now().Add(time.Minute); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("redis-server %d outlived the process that started it", pid)
		}
	}
}

// alive says whether the process runs; one that has ended and that nobody has
// waited for (init's affair) does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
