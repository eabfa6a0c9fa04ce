package mongod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/internal/wheel"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// A Node is one member of the replica set. Its methods are safe for concurrent
// use; those that start or end the process wait for each other.
type Node struct {
	server *Server
	port   int
	dir    string // data and log

	mu   sync.Mutex
	proc *process // nil while not running
}

// Addr returns the node's address, such as "127.0.0.1:27017". It never changes.
func (n *Node) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

// URI returns the connection string for this node alone, whatever its state.
func (n *Node) URI() string {
	return "mongodb://" + n.server.userinfo() + n.Addr() + "/?directConnection=true"
}

// PID returns the process's id, 0 while it doesn't run.
func (n *Node) PID() int {
	if p := n.running(); p != nil {
		return p.pid
	}
	return 0
}

// Kill ends the process with SIGKILL, and returns when it has ended. It does
// nothing if the node doesn't run.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL) }

// Shutdown ends the process with SIGTERM, like a service manager: a primary
// hands over to another member, and connections are closed. It returns when the
// process has ended.
func (n *Node) Shutdown() error { return n.end(syscall.SIGTERM) }

// Pause suspends the process (SIGSTOP): connections stay open, nothing answers.
// On Linux it returns when all its threads have stopped; elsewhere they may
// stop a moment later.
func (n *Node) Pause() error {
	if err := n.signal(sigStop); err != nil {
		return err
	}
	if err := awaitStop(n.PID()); err != nil {
		return fmt.Errorf("mongod: pause %s: %w", n.Addr(), err)
	}
	return nil
}

// Resume ends a Pause.
func (n *Node) Resume() error { return n.signal(sigCont) }

func (n *Node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

func (n *Node) signal(sig syscall.Signal) error {
	p := n.running()
	if p == nil {
		return fmt.Errorf("mongod: %s does not run", n.Addr())
	}
	return p.cmd.Process.Signal(sig)
}

func (n *Node) end(sig syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return nil
	}
	if err := n.proc.end(sig, shutdownTimeout); err != nil {
		return fmt.Errorf("mongod: stop %s: %w", n.Addr(), err)
	}
	n.proc = nil
	return nil
}

// errPortTaken means that another process listens on the port that was free a
// moment ago.
var errPortTaken = errors.New("the port was taken meanwhile")

// exitPortTaken is mongod's exit code for it (EXIT_NET_ERROR).
const exitPortTaken = 48

// Start starts the process on the existing data, and returns when it answers,
// which is before it has a primary. It is an error if it runs already.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		return fmt.Errorf("mongod: %s runs already", n.Addr())
	}
	var logged int64
	if info, err := os.Stat(n.logFile()); err == nil {
		logged = info.Size()
	}
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mongod: %w", err)
	}
	defer log.Close() // the process has its own
	cmd := n.command()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("mongod: start %s: %w", n.server.binary.Path, err)
	}
	if err := n.awaitAnswer(ctx, p, logged); err != nil {
		return errors.Join(err, p.end(syscall.SIGKILL, shutdownTimeout))
	}
	n.proc = p
	return nil
}

func (n *Node) command() *exec.Cmd {
	o := n.server.options
	args := []string{
		"--replSet", replicaSet, "--bind_ip", "127.0.0.1", "--port", strconv.Itoa(n.port), "--dbpath", n.dir, "--nounixsocket",
		"--wiredTigerCacheSizeGB", "0.25", "--oplogSize", strconv.Itoa(o.OplogMB), "--syncdelay", strconv.Itoa(o.SyncDelay),
		"--setParameter", "enableTestCommands=1", "--setParameter", "diagnosticDataCollectionEnabled=false",
	}
	if o.Auth {
		args = append(args, "--auth", "--keyFile", n.server.keyFile())
	}
	cmd := exec.Command(n.server.binary.Path, append(args, o.Args...)...)
	cmd.Env = n.server.binary.env()
	return cmd
}

// logFile returns a path next to the data directory, which must contain only
// mongod's files.
func (n *Node) logFile() string { return n.dir + ".log" }

// awaitAnswer waits until mongod's log says that it listens. A connection to
// the port would prove less: another process may have it.
func (n *Node) awaitAnswer(ctx context.Context, p *process, logged int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if text, err := os.ReadFile(n.logFile()); err == nil && bytes.Contains(text[min(logged, int64(len(text))):], []byte("Waiting for connections")) {
			return nil
		}
		select {
		case <-p.done:
			return n.diedAtStart(p)
		case <-ctx.Done():
			return fmt.Errorf("mongod: %s does not answer: %w: %s", n.Addr(), ctx.Err(), n.logTail())
		case <-time.After(pollInterval):
		}
	}
}

func (n *Node) diedAtStart(p *process) error {
	if p.exitCode() == exitPortTaken {
		return fmt.Errorf("mongod: %s: %w", n.Addr(), errPortTaken)
	}
	return fmt.Errorf("mongod: %s ended at its start (%v): %s", n.Addr(), p.err, n.logTail())
}

func (n *Node) logTail() string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return "it wrote no log"
	}
	return wheel.LastLines(text, 3)
}

// connect returns a client of this node alone, which connects on first use.
func (n *Node) connect() (*mongo.Client, error) {
	return mongoclient.Connect(options.Client().ApplyURI(n.URI()).SetServerSelectionTimeout(startTimeout))
}

func newNode(s *Server, i, port int) (*Node, error) {
	dir := filepath.Join(s.dir, fmt.Sprint("node", i))
	return &Node{server: s, port: port, dir: dir}, os.MkdirAll(dir, 0o700)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
