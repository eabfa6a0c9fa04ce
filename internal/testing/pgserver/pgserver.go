// Package pgserver runs real PostgreSQL servers for tests, campaigns and benchmarks.
// They listen on 127.0.0.1, on free ports, each with a directory of its own, and
// accept everybody as the superuser postgres. Each can be stopped, killed, frozen
// and restarted on the same data, and on Linux none outlives the process that
// started it.
//
// It needs the binaries of PostgreSQL, on PATH or where Debian installs them, and
// uses only the standard library. As root it runs the server as another user, since
// PostgreSQL refuses to run as root.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
)

// ErrNotInstalled is returned by [New] if there is no PostgreSQL server.
var ErrNotInstalled = errors.New("pgserver: there is no PostgreSQL server (Debian: apt-get install postgresql)")

// Options configure a server.
type Options struct {
	// Config holds settings, such as "max_connections=20".
	Config []string
}

// A Server is one PostgreSQL server. Its methods are for one goroutine at a time.
type Server struct {
	// Port is the port on 127.0.0.1, also after a restart.
	Port int
	// Dir is the server's directory; the data are in its subdirectory data.
	Dir string

	bin    string
	config []string
	log    sharedlog.Buffer
	proc   *exec.Cmd     // nil while stopped
	exited chan struct{} // closed when proc has ended
}

// New makes a database cluster and starts its server.
func New(ctx context.Context, o *Options) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rigatoni-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, bin: bin}
	if o != nil {
		s.config = o.Config
	}
	if err := s.create(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) create(ctx context.Context) (err error) {
	if err := giveAway(s.Dir); err != nil {
		return err
	}
	if s.Port, err = freePort(); err != nil {
		return err
	}
	out, err := s.command(ctx, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgserver: initdb: %w\n%s", err, out)
	}
	return s.Restart(ctx)
}

// URL is that of the database postgres.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
}

// Log is what the server has printed.
func (s *Server) Log() string { return s.log.String() }

// Restart starts a server that was stopped or killed, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err := s.launch(); err != nil {
			return err
		}
		switch up, err := s.await(ctx); {
		case err != nil:
			return errors.Join(err, s.Kill())
		case up:
			return nil
		}
		// It has ended at once: processes of a killed server still use its memory.
		s.proc = nil
		if err := pause(ctx); err != nil {
			return fmt.Errorf("pgserver: the server does not start: %w\n%s", err, s.Log())
		}
	}
}

func (s *Server) launch() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.Port), "-k", s.Dir, "-c", "listen_addresses=127.0.0.1"}
	for _, c := range s.config {
		args = append(args, "-c", c)
	}
	cmd := s.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended is in the log
		close(exited)
	}()
	s.proc, s.exited = cmd, exited
	return nil
}

// await waits until the server answers, and reports false if it has ended before.
func (s *Server) await(ctx context.Context) (bool, error) {
	for {
		if s.command(ctx, "pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)).Run() == nil {
			return true, nil
		}
		select {
		case <-s.exited:
			return false, nil
		default:
		}
		if err := pause(ctx); err != nil {
			return false, fmt.Errorf("pgserver: the server does not answer: %w\n%s", err, s.Log())
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Stop ends the server as "pg_ctl stop -m immediate" does: it recovers at the next
// start, as after a crash.
func (s *Server) Stop() error { return s.end(syscall.SIGQUIT) }

// Shutdown ends the server as "pg_ctl stop -m fast" does.
func (s *Server) Shutdown() error { return s.end(syscall.SIGINT) }

func (s *Server) end(sig syscall.Signal) error {
	if s.proc == nil {
		return nil
	}
	if err := s.proc.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.exited
	s.proc = nil
	return nil
}

// Close kills the server and removes its data.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.Dir))
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// command runs one of PostgreSQL's programs.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	asServer(cmd)
	return cmd
}

// findBinaries returns the directory of PostgreSQL's programs.
func findBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", ErrNotInstalled
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// freePort returns a port on which nothing listens, below those that systems use for
// outgoing connections: it must stay free while the server is down.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 10_240 + rand.IntN(32_767-10_240)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("pgserver: no free port was found: %w", err)
}

// Standby starts a hot standby that follows this server.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "rigatoni-postgres-")
	if err != nil {
		return nil, err
	}
	standby := &Server{Dir: dir, bin: s.bin, config: s.config}
	if err := giveAway(dir); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	if standby.Port, err = freePort(); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	out, err := standby.command(ctx, "pg_basebackup", "-D", standby.data(), "-R", "-X", "stream", "-c", "fast",
		"-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: pg_basebackup: %w\n%s", err, out), standby.Close())
	}
	if err := standby.Restart(ctx); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// Promote makes a standby a primary.
func (s *Server) Promote(ctx context.Context) error {
	if out, err := s.command(ctx, "pg_ctl", "promote", "-w", "-D", s.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("pgserver: pg_ctl promote: %w\n%s", err, out)
	}
	return nil
}

// Signal sends a signal to the processes of the server that serve connections and the
// one that started them: SIGSTOP freezes all, SIGCONT ends that.
func (s *Server) Signal(sig syscall.Signal) error {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(s.proc.Process.Pid)).Output()
	if err != nil {
		return fmt.Errorf("pgserver: pgrep: %w", err)
	}
	pids := []int{s.proc.Process.Pid}
	for line := range strings.Lines(string(out)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		p, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}
