// Package redisserver runs a real redis-server for tests, campaigns and
// benchmarks: on 127.0.0.1, on a free port, in a directory of its own. It can
// be stopped, restarted on the same data, killed and frozen, and it never
// outlives the process that started it (on Linux the kernel sees to that).
//
// It speaks to the server with nothing but the standard library.
package redisserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrNotInstalled is returned by [New] where there is no redis-server on PATH.
var ErrNotInstalled = errors.New("redisserver: there is no redis-server on PATH")

// Options say what server to run. The zero Options are a server without a
// password that writes nothing to disk and evicts nothing.
type Options struct {
	// Password is asked of the default user. "": none is.
	Password string
	// Config holds further lines of redis.conf, such as "appendonly yes" for
	// data that lives through a restart. They come last and so win.
	Config []string
}

// A Server is one redis-server. Its methods are for one goroutine at a time.
type Server struct {
	// Addr is host:port; it stays the same over a restart.
	Addr string
	// Dir is where the server keeps its files.
	Dir string

	opts Options
	proc *process // nil while it is stopped
}

// A process is one life of the server.
type process struct {
	cmd    *exec.Cmd
	log    lockedBuffer
	exited chan struct{} // closed when it has ended
}

// startTimeout is how long a server may take until it answers.
const startTimeout = 20 * time.Second

// New starts a server and returns when it answers. The caller calls
// [Server.Close]; nil options are the zero Options.
func New(ctx context.Context, o *Options) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, ErrNotInstalled
	}
	dir, err := os.MkdirTemp("", "redisserver-")
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	s := &Server{Dir: dir}
	if o != nil {
		s.opts = *o
	}
	// Somebody may take the free port between finding it and using it.
	for range 5 {
		if s.Addr, err = freeAddr(); err != nil {
			break
		}
		if err = s.start(ctx); !errors.Is(err, errAddrInUse) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// URL is the server's URL, with the password if it has one.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addr}
	if s.opts.Password != "" {
		u.User = url.UserPassword("", s.opts.Password)
	}
	return u.String()
}

// Port is the port of Addr.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.Addr)
	n, _ := strconv.Atoi(port) // freeAddr made it
	return n
}

// PID is the process id of the running server, 0 if it is stopped.
func (s *Server) PID() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Log is what the server has logged since it was last started.
func (s *Server) Log() string {
	if s.proc == nil {
		return ""
	}
	return s.proc.log.String()
}

// Stop asks the server to end, as SHUTDOWN does, and waits until it has. A
// stopped server may be started again with [Server.Restart].
func (s *Server) Stop() error {
	if s.proc == nil {
		return nil
	}
	if err := errors.Join(s.Thaw(), terminate(s.proc.cmd.Process)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(fmt.Errorf("redisserver: %w", err), s.Kill())
	}
	select {
	case <-s.proc.exited:
		s.proc = nil
		return nil
	case <-time.After(startTimeout):
		return errors.Join(errors.New("redisserver: the server did not stop when asked"), s.Kill())
	}
}

// Kill ends the server as a crash does.
func (s *Server) Kill() error {
	if s.proc == nil {
		return nil
	}
	if err := s.proc.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("redisserver: %w", err)
	}
	<-s.proc.exited
	s.proc = nil
	return nil
}

// Restart stops the server if it runs, starts it with the same address,
// configuration and directory, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Freeze stops the server's process where it is (SIGSTOP): its connections stay
// open and nothing answers.
func (s *Server) Freeze() error { return s.signal(freeze) }

// Thaw lets a frozen server go on (SIGCONT).
func (s *Server) Thaw() error { return s.signal(thaw) }

func (s *Server) signal(send func(*os.Process) error) error {
	if s.proc == nil {
		return errors.New("redisserver: the server is stopped")
	}
	if err := send(s.proc.cmd.Process); err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	return nil
}

// Close kills the server and removes its files.
func (s *Server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.Dir)) }

var errAddrInUse = errors.New("redisserver: the port was taken by somebody else")

func (s *Server) start(ctx context.Context) error {
	p := &process{cmd: exec.Command("redis-server", "-"), exited: make(chan struct{})}
	// The configuration goes through standard input, so that the password
	// stands neither in a file nor in the list of processes.
	p.cmd.Stdin = strings.NewReader(s.config())
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Dir = s.Dir
	dieWithParent(p.cmd)
	if err := p.run(); err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	s.proc = p
	if err := s.await(ctx); err != nil {
		log := p.log.String()
		if strings.Contains(log, "Address already in use") {
			err = errAddrInUse
		}
		return errors.Join(fmt.Errorf("%w; the server's log:\n%s", err, log), s.Kill())
	}
	return nil
}

// run starts the process from a thread that lives as long as the process does:
// on Linux the kernel kills the child when the *thread* that made it ends.
func (p *process) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended says nothing: we end it ourselves
			close(p.exited)
		}
	}()
	return <-started
}

func (s *Server) config() string {
	lines := []string{
		"bind 127.0.0.1",
		"port " + strconv.Itoa(s.Port()),
		"dir " + s.Dir,
		`save ""`,
		"appendonly no",
		"maxmemory-policy noeviction",
		"daemonize no",
	}
	if s.opts.Password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(s.opts.Password))
	}
	return strings.Join(append(lines, s.opts.Config...), "\n") + "\n"
}

// await returns when the server answers a PING.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redisserver: the server did not answer: %w (%w)", err, ctx.Err())
		case <-s.proc.exited:
			return errors.New("redisserver: the server ended at once")
		case <-tick.C:
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	reply := make([]byte, 128)
	n, err := c.Read(reply)
	if err != nil {
		return err
	}
	// A server that wants a password is up; one that loads its data is not yet.
	if reply := strings.TrimSpace(string(reply[:n])); reply != "+PONG" && !strings.HasPrefix(reply, "-NOAUTH") {
		return errors.New(reply)
	}
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("redisserver: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// A lockedBuffer takes the server's log from one goroutine and shows it to another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
