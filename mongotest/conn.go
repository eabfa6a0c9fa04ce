package mongotest

import (
	"net"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A conn is one client's connection. Its goroutine reads a request, answers it
// and reads the next: in MongoDB's wire protocol no request follows before the
// answer to the one before.
type conn struct {
	server *Server
	net    net.Conn
	id     int32

	once sync.Once
	gone chan struct{} // closed with the connection

	// What the client said about itself in its first hello. Only the
	// connection's goroutine uses it.
	appName string
	helloOK bool
}

func (c *conn) close() {
	c.once.Do(func() {
		close(c.gone)
		c.net.Close()
	})
}

func (c *conn) serve() {
	defer c.close()
	for {
		m, err := readMessage(c.net)
		if err != nil || !c.thawed() {
			return
		}
		reply := c.server.answer(c, m)
		if reply == nil || !c.thawed() {
			return
		}
		if m.noReply {
			continue
		}
		if _, err := c.net.Write(m.frame(c.server.nextReply.Add(1), reply)); err != nil {
			return
		}
	}
}

// thawed waits while the server is frozen. It returns false if the connection
// was closed meanwhile.
func (c *conn) thawed() bool {
	for {
		wait := c.server.ice.wait()
		if wait == nil {
			return true
		}
		select {
		case <-wait:
		case <-c.gone:
			return false
		}
	}
}

// answer returns the reply to a message; nil closes the connection.
func (s *Server) answer(c *conn, m *message) bson.Raw {
	r, err := s.newRequest(c, m)
	var reply *bsondoc.Builder
	if err == nil {
		reply, err = s.run(r)
	}
	if err == errHangUp {
		return nil
	}
	if err != nil {
		e := cmderr.From(err)
		reply = e.Reply()
		if slices.Contains(notPrimaryCodes, e.Code) {
			s.topology.version(reply)
		}
	}
	s.gossip(reply)
	return reply.Done()
}

// notPrimaryCodes are the errors whose replies have a topologyVersion, also
// when a fail point made the error. Without one a driver marks the server as
// unknown until the next answer to its monitor, up to ten seconds later.
var notPrimaryCodes = []int{189, cmderr.NotWritablePrimary, 11602, cmderr.NotPrimaryNoSecondaryOk, 13436}

// gossip adds the times that every reply has, also that of an error.
func (s *Server) gossip(reply *bsondoc.Builder) {
	now := s.store.lastTime()
	at := reply.Open(bson.TypeEmbeddedDocument, "$clusterTime")
	reply.Timestamp("clusterTime", now)
	sig := reply.Open(bson.TypeEmbeddedDocument, "signature")
	reply.Binary("hash", bson.TypeBinaryGeneric, make([]byte, 20)).Int64("keyId", 0)
	reply.Close(sig)
	reply.Close(at)
	reply.Timestamp("operationTime", now)
}
