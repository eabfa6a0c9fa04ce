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
// and reads the next: a wire of MongoDB's has no second request before the
// first one's answer.
type conn struct {
	server *Server
	net    net.Conn
	id     int32

	once sync.Once
	gone chan struct{} // closed with the connection

	// What the first hello said. Only the connection's own goroutine reads it.
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

// thawed waits while the server is frozen. It is false if the connection has
// gone in the meantime.
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

// answer is the reply to a message, whatever it asks; nil closes the
// connection.
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

// notPrimaryCodes are those whose replies have a topologyVersion, whoever made the
// error, a fail point too: a driver that is told such a code without one takes the
// server for unknown, until its monitor hears of it again after up to ten seconds.
var notPrimaryCodes = []int{189, cmderr.NotWritablePrimary, 11602, cmderr.NotPrimaryNoSecondaryOk, 13436}

// gossip adds the times that every reply has, errors too.
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
