// Package redisserver runs real Redis servers for tests, campaigns and
// benchmarks: one ([New]), one with replicas and sentinels ([NewSentinel]), or a
// Cluster ([NewCluster]), all of them with TLS if need be ([NewPKI]). They are on
// 127.0.0.1, on free ports, each in a directory of its own. Every one can be
// stopped, restarted on the same data, killed and frozen, and none outlives the
// process that started it (on Linux the kernel sees to that).
//
// It needs redis-server on PATH, which is the sentinel too, and speaks to it with
// nothing but the standard library.
package redisserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
)

// ErrNotInstalled is returned by [New] where there is no redis-server on PATH.
var ErrNotInstalled = errors.New("redisserver: there is no redis-server on PATH")

// Options say what server to run. The zero Options are a server without a
// password that writes nothing to disk and evicts nothing.
type Options struct {
	// Password is asked of the default user. "": none is.
	Password string
	// Users are those of its access control list, besides the default one.
	Users []User
	// TLS is whose certificate the server has; then it speaks nothing but TLS.
	// It asks clients for no certificate, but one that they show must be good;
	// "tls-auth-clients yes" in Config makes it ask. nil: no TLS.
	TLS *PKI
	// Socket has it listen on a Unix socket as well, Server.Socket.
	Socket bool
	// Config holds further lines of redis.conf, such as "appendonly yes" for
	// data that lives through a restart. They come last and so win.
	Config []string
}

// A User is one of a server's access control list.
type User struct {
	Name, Password string
	Rules          string // as after ACL SETUSER: "~rigatoni:* +get"
}

// A Server is one redis-server. Its methods are for one goroutine at a time,
// but for Do and Info, which any number may call.
type Server struct {
	// Addr is host:port; it stays the same over a restart.
	Addr string
	// Dir is where the server keeps its files.
	Dir string
	// Socket is the path of the Unix socket, if there is one.
	Socket string

	opts   Options
	client *tls.Config // nil without TLS
	mode   mode
	admin  *User    // whom Do logs in as; nil: the default user
	bus    int      // the port on which the nodes of a Cluster talk
	extra  []string // configuration that its part in a topology asks for
	proc   *process // nil while it is stopped
}

// A mode is what kind of server the binary is run as.
type mode int

const (
	plain mode = iota
	// replicated: sentinels may change the configuration, so that it lies in a
	// file that the server can write.
	replicated
	sentinel // reads its configuration from such a file as well, or won't start
	clustered
)

// A process is one life of the server.
type process struct {
	cmd    *exec.Cmd
	log    sharedlog.Buffer
	exited chan struct{} // closed when it has ended
}

// startTimeout is how long a server may take until it answers.
const startTimeout = 20 * time.Second

// New starts a server and returns when it answers. The caller calls
// [Server.Close]; nil options are the zero Options.
func New(ctx context.Context, o *Options) (*Server, error) {
	if o == nil {
		o = &Options{}
	}
	return newServer(ctx, *o, plain)
}

func newServer(ctx context.Context, o Options, m mode, extra ...string) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, ErrNotInstalled
	}
	dir, err := os.MkdirTemp("", "redisserver-")
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	s := &Server{Dir: dir, opts: o, mode: m, extra: extra}
	if o.Socket {
		s.Socket = filepath.Join(dir, "redis.sock")
	}
	if o.TLS != nil {
		if s.client, err = o.TLS.Client(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	// Somebody may take the free port between finding it and using it.
	for range 5 {
		if s.Addr, err = freeAddr(); err != nil {
			break
		}
		if err = s.configure(); err != nil {
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

// URL is the server's URL, with the password if it has one; rediss:// if it
// speaks TLS.
func (s *Server) URL() string { return s.URLOn(s.Addr) }

// URLOn is URL with another address, such as a proxy's.
func (s *Server) URLOn(addr string) string { return s.opts.url("redis", addr, "") }

func (o *Options) url(scheme, host, path string) string {
	u := url.URL{Scheme: scheme, Host: host, Path: path}
	if o.TLS != nil {
		u.Scheme = strings.Replace(scheme, "redis", "rediss", 1)
	}
	if o.Password != "" {
		u.User = url.UserPassword("", o.Password)
	}
	return u.String()
}

// Port is the port of Addr.
func (s *Server) Port() int { return portOf(s.Addr) }

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
	switch s.mode {
	case replicated:
		p.cmd = exec.Command("redis-server", s.configFile())
	case sentinel:
		p.cmd = exec.Command("redis-server", s.configFile(), "--sentinel")
	default:
		// Through standard input, the password stands in no file.
		p.cmd.Stdin = strings.NewReader(s.config())
	}
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
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = exchange(c, bufio.NewReader(c), "PING")
	// A server that wants a password is up; one that loads its data is not yet.
	if refusal := ReplyError(""); errors.As(err, &refusal) && strings.HasPrefix(string(refusal), "NOAUTH") {
		return nil
	}
	return err
}
