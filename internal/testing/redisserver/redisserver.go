// Package redisserver runs real Redis servers for tests, campaigns and
// benchmarks: a single one ([New]), one with replicas and sentinels
// ([NewSentinel]), or a Cluster ([NewCluster]), all of them optionally with TLS
// ([NewPKI]). They listen on 127.0.0.1, on free ports, each with a directory of
// its own. Each can be stopped, restarted on the same data, killed and frozen,
// and on Linux none outlives the process that started it.
//
// It needs redis-server on PATH, which is also the sentinel, or fetches another version
// ([Find]), and uses only the standard library to talk to it.
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

// Options configure a server. The zero Options mean a server without a password
// that writes nothing to disk and evicts nothing.
type Options struct {
	// Version is the server's: "" for the redis-server on PATH, [Redis62], [Valkey9].
	Version string
	// Password is that of the default user; empty for none.
	Password string
	// Users are those of the access control list, besides the default user.
	Users []User
	// TLS provides the server's certificate; the server then accepts only TLS.
	// Clients need no certificate, but one that they present must be valid;
	// "tls-auth-clients yes" in Config requires one.
	TLS *PKI
	// Socket makes it also listen on a Unix socket, Server.Socket.
	Socket bool
	// Config holds further lines of redis.conf, such as "appendonly yes" for
	// data that survives a restart. They come last and take precedence.
	Config []string
}

// A User is one entry of a server's access control list.
type User struct {
	Name, Password string
	Rules          string // as after ACL SETUSER: "~rigatoni:* +get"
}

// A Server is one redis-server. Its methods are for one goroutine at a time,
// except Do and Info, which are safe for concurrent use.
type Server struct {
	// Addr is host:port, also after a restart.
	Addr string
	// Dir is the server's directory.
	Dir string
	// Socket is the path of the Unix socket, if there is one.
	Socket string

	path   string // of the program
	opts   Options
	client *tls.Config // nil without TLS
	mode   mode
	admin  *User    // the user of Do; nil for the default user
	bus    int      // the port for the nodes of a Cluster
	extra  []string // configuration for its role in a topology
	proc   *process // nil while stopped
}

// A mode is the kind of server that the binary runs as.
type mode int

const (
	plain mode = iota
	// replicated servers have their configuration in a file that they can
	// write, because sentinels change it.
	replicated
	sentinel // also needs such a file to start
	clustered
)

// A process is one run of the server.
type process struct {
	cmd    *exec.Cmd
	log    sharedlog.Buffer
	exited chan struct{} // closed when it has ended
}

// startTimeout is the time in which a server must answer after its start.
const startTimeout = 60 * time.Second

// New starts a server and returns when it answers. The caller must call
// [Server.Close]. Nil options mean the zero Options.
func New(ctx context.Context, o *Options) (*Server, error) {
	if o == nil {
		o = &Options{}
	}
	return newServer(ctx, *o, plain)
}

func newServer(ctx context.Context, o Options, m mode, extra ...string) (*Server, error) {
	path, err := Find(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redisserver-")
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	s := &Server{Dir: dir, path: path, opts: o, mode: m, extra: extra}
	if o.Socket {
		s.Socket = filepath.Join(dir, "redis.sock")
	}
	if o.TLS != nil {
		if s.client, err = o.TLS.Client(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	// Another process may take the free port before it is used.
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

// URL returns the server's URL, with its password; rediss:// with TLS.
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

// Port returns the port of Addr.
func (s *Server) Port() int { return portOf(s.Addr) }

// PID returns the process id of the running server, 0 while stopped.
func (s *Server) PID() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Log returns what the server has logged since its last start.
func (s *Server) Log() string {
	if s.proc == nil {
		return ""
	}
	return s.proc.log.String()
}

// Stop ends the server with SHUTDOWN, and waits until it has ended. It can be
// started again with [Server.Restart].
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

// Kill ends the server like a crash.
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

// Restart stops the server if it runs, starts it again with the same address,
// configuration and directory, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Freeze suspends the server's process (SIGSTOP): its connections stay open and
// nothing answers.
func (s *Server) Freeze() error { return s.signal(freeze) }

// Thaw resumes a frozen server (SIGCONT).
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
	p := &process{cmd: exec.Command(s.path, "-"), exited: make(chan struct{})}
	switch s.mode {
	case replicated:
		p.cmd = exec.Command(s.path, s.configFile())
	case sentinel:
		p.cmd = exec.Command(s.path, s.configFile(), "--sentinel")
	default:
		// On standard input the password is in no file.
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

// run starts the process from a thread that lives as long as the process: on
// Linux the kernel kills the child when the *thread* that started it ends.
func (p *process) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the result means nothing: we end it ourselves
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
	// A server that requires a password is up; one that loads its data is not
	// yet.
	if refusal := ReplyError(""); errors.As(err, &refusal) && strings.HasPrefix(string(refusal), "NOAUTH") {
		return nil
	}
	return err
}
