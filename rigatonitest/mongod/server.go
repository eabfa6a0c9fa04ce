package mongod

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

const (
	replicaSet = "rs0"
	rootUser   = "root"
)

// A Server is a replica set on this machine. It is safe for concurrent use.
type Server struct {
	options  Options
	binary   Binary
	dir      string
	password string
	nodes    []*Node
	reaper   io.Closer

	stop    sync.Once
	stopErr error
}

// Start starts a replica set and returns when it has a primary that accepts
// writes: after a fifth of a second for one node, two seconds for three. The
// caller must call Stop.
func Start(ctx context.Context, o Options) (*Server, error) {
	if runtime.GOOS == "windows" {
		return nil, fmt.Errorf("%w: servers for tests run on Linux and macOS only", ErrNotFound)
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Binary.Path == "" {
		if o.Binary, err = Find(ctx, FindOptions{Version: o.Version, Fetch: true, Logf: o.Logf}); err != nil {
			return nil, err
		}
	}
	// Another process may take a port between finding it and using it.
	for range 3 {
		s, startErr := start(ctx, o)
		if startErr == nil {
			return s, nil
		}
		if err = startErr; !errors.Is(err, errPortTaken) {
			break
		}
	}
	return nil, err
}

func start(ctx context.Context, o Options) (_ *Server, err error) {
	s := &Server{options: o, binary: o.Binary}
	if s.dir, err = os.MkdirTemp(o.Dir, "rigatoni-mongod-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.reaper, err = startReaper(s.dir); err != nil {
		return nil, err
	}
	if err := s.writeKeyFile(); err != nil {
		return nil, err
	}
	for i := range o.Nodes {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		n, err := newNode(s, i, port)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, n)
	}
	if err := s.startNodes(ctx); err != nil {
		return nil, err
	}
	return s, s.initiate(ctx)
}

// startReaper starts a process that removes dir when this process has ended,
// for whatever reason. A test binary that is killed would leave 300 MB behind.
// Closing the reaper ends it; it then removes the directory, too.
func startReaper(dir string) (io.Closer, error) {
	// The servers are killed at the same moment and may still be writing.
	const script = `read _; for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && break; sleep 0.2; done`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir)
	cmd.SysProcAttr = apartAttr()
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("mongod: %w", err)
	}
	return closerFunc(func() error { return errors.Join(pipe.Close(), cmd.Wait()) }), nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// URI returns the connection string of the whole set. With Options.Auth it
// contains a password.
func (s *Server) URI() string {
	addrs := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		addrs[i] = n.Addr()
	}
	return "mongodb://" + s.userinfo() + strings.Join(addrs, ",") + "/?replicaSet=" + replicaSet
}

// Nodes returns the members of the set, running or not.
func (s *Server) Nodes() []*Node { return s.nodes }

// Version returns the version of MongoDB that runs.
func (s *Server) Version() string { return s.binary.Version }

// Kill ends all nodes with SIGKILL, as a power cut would.
func (s *Server) Kill() error { return s.each((*Node).Kill) }

// Shutdown ends all nodes with SIGTERM, cleanly.
func (s *Server) Shutdown() error { return s.each((*Node).Shutdown) }

// Restart starts the nodes that don't run, on their old data and ports, and
// returns when there is a primary that accepts writes.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.startNodes(ctx); err != nil {
		return err
	}
	_, err := s.Primary(ctx)
	return err
}

// Stop kills all nodes and removes their data. Further calls do nothing and
// return the same result.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		s.stopErr = s.Kill()
		if s.reaper != nil {
			s.stopErr = errors.Join(s.stopErr, s.reaper.Close())
		}
		s.stopErr = errors.Join(s.stopErr, os.RemoveAll(s.dir))
	})
	return s.stopErr
}

// StartOver kills the nodes, deletes all their data, and makes them a new
// replica set with the same addresses: for a client of URI, another deployment
// with the same name. It is an error with Options.Auth.
func (s *Server) StartOver(ctx context.Context) error {
	if s.options.Auth {
		return errors.New("mongod: StartOver is for servers without access control")
	}
	if err := s.Kill(); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if err := errors.Join(os.RemoveAll(n.dir), os.Mkdir(n.dir, 0o700)); err != nil {
			return fmt.Errorf("mongod: %w", err)
		}
	}
	if err := s.startNodes(ctx); err != nil {
		return err
	}
	return s.initiate(ctx)
}

func (s *Server) startNodes(ctx context.Context) error {
	return s.each(func(n *Node) error {
		if n.running() != nil {
			return nil
		}
		return n.Start(ctx)
	})
}

// each calls f for all nodes concurrently.
func (s *Server) each(f func(*Node) error) error {
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) userinfo() string {
	if s.password == "" {
		return ""
	}
	return rootUser + ":" + s.password + "@"
}

func (s *Server) keyFile() string { return filepath.Join(s.dir, "key") }

func (s *Server) writeKeyFile() error {
	if !s.options.Auth {
		return nil
	}
	return os.WriteFile(s.keyFile(), []byte(randomHex(32)), 0o600)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Log returns what all nodes have logged so far, one line of JSON for each
// entry.
func (s *Server) Log() string {
	var b bytes.Buffer
	for _, n := range s.nodes {
		text, err := os.ReadFile(n.logFile())
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "== %s\n%s\n", n.Addr(), text)
	}
	return b.String()
}
