package mongotest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Options configure a server. The zero value is right for most tests.
type Options struct {
	// Address is the address to listen on (default 127.0.0.1:0, which selects a
	// free port). It must be a loopback address, because the server has no
	// access control.
	Address string
	// OplogEntries is the capacity of the oplog: older entries are removed
	// (default 250,000). It must be at least 1.
	OplogEntries int
	// V2Tokens makes streams return resume tokens of version 2, which contain
	// an event's operationType; MongoDB does so by default since 7.0. Otherwise
	// tokens are of version 1, as on 6.0, except in streams that request
	// version 2 by $changeStreamSplitLargeEvent, by the field
	// $_generateV2ResumeTokens of their aggregate, or by resuming from a token
	// of version 2.
	V2Tokens bool
}

const defaultOplogEntries = 250_000

// A Server is a running server. All its methods are safe for concurrent use.
type Server struct {
	listener net.Listener
	name     string // host:port
	commands map[string]*command
	store    *store
	started  time.Time
	v2Tokens bool

	sessions   sessions
	cursors    cursors
	failPoints failPoints
	topology   topology
	ice        ice

	stop          chan struct{} // closed by Close
	closing       sync.Once
	forgetContext func() bool
	running       sync.WaitGroup

	connMu    sync.Mutex
	conns     map[*conn]struct{}
	nextConn  atomic.Int32
	nextReply atomic.Int32
}

// TB is the part of testing.TB that Start uses.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Start starts a server that is closed at the end of the test.
func Start(t TB) *Server {
	t.Helper()
	s, err := Listen(context.Background(), Options{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Listen starts a server, which accepts connections when Listen returns. It
// runs until Close is called or ctx is done.
func Listen(ctx context.Context, o Options) (*Server, error) {
	if o.OplogEntries == 0 {
		o.OplogEntries = defaultOplogEntries
	}
	if o.OplogEntries < 1 {
		return nil, errors.New("mongotest: Options.OplogEntries must be at least 1")
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	address, err := loopback(o.Address)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("mongotest: listen on %s: %w", o.Address, err)
	}
	s := &Server{
		listener: listener,
		name:     listener.Addr().String(),
		commands: allCommands(),
		store:    newStore(listener.Addr().String(), o.OplogEntries),
		started:  time.Now(),
		v2Tokens: o.V2Tokens,
		stop:     make(chan struct{}),
		conns:    map[*conn]struct{}{},
	}
	s.topology.processID, s.topology.replicaSetID = bson.NewObjectID(), bson.NewObjectID()
	s.topology.changed = make(chan struct{})
	s.running.Add(2)
	go s.accept()
	go s.housekeeping()
	s.forgetContext = context.AfterFunc(ctx, s.shutDown)
	return s, nil
}

// loopback refuses an address that other machines could reach.
func loopback(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("mongotest: Options.Address %q is not of the form host:port", address)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("mongotest: Options.Address %q is not a loopback address, such as 127.0.0.1:0", address)
	}
	return net.JoinHostPort(host, port), nil
}

const replicaSetName = "rs0"

// URI returns the connection string for drivers. It names the replica set and
// no database.
func (s *Server) URI() string {
	return "mongodb://" + s.name + "/?replicaSet=" + replicaSetName
}

// Close stops the server: it closes all connections, and returns when all of
// the server's goroutines have ended. The data is gone.
func (s *Server) Close() {
	s.forgetContext()
	s.shutDown()
	s.running.Wait()
}

func (s *Server) shutDown() {
	s.closing.Do(func() {
		close(s.stop)
		s.listener.Close()
		s.DropConnections()
	})
}

func (s *Server) accept() {
	defer s.running.Done()
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.stop:
				return
			case <-time.After(10 * time.Millisecond): // for example, out of file descriptors
				continue
			}
		}
		s.serve(nc)
	}
}

// serve starts a connection's goroutine, unless the server is closing.
func (s *Server) serve(nc net.Conn) {
	c := &conn{server: s, net: nc, id: s.nextConn.Add(1), gone: make(chan struct{})}
	s.connMu.Lock()
	defer s.connMu.Unlock()
	select {
	case <-s.stop:
		nc.Close()
		return
	default:
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		c.serve()
		s.connMu.Lock()
		delete(s.conns, c)
		s.connMu.Unlock()
	}()
}

// idleNoop is how often an idle server writes a no-op to its oplog, which
// advances the high-water marks of quiet streams. The number is that of a real
// server.
const idleNoop = 10 * time.Second

func (s *Server) housekeeping() {
	defer s.running.Done()
	ticker := time.NewTicker(idleNoop)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.store.noopIfIdle(idleNoop)
		}
	}
}

// newUUID returns a random UUID (version 4).
func newUUID() (u [16]byte) {
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}
