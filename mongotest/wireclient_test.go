package mongotest

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A wireClient sends plain commands, so that whole replies can be compared.
type wireClient struct {
	t    testing.TB
	conn net.Conn
	id   int32
}

func dial(t testing.TB, uri string) *wireClient {
	t.Helper()
	host := strings.Split(strings.TrimPrefix(uri, "mongodb://"), "/")[0]
	c, err := net.DialTimeout("tcp", host, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wireClient{t: t, conn: c}
}

func request2frame(id int32, doc bson.Raw) []byte {
	b := make([]byte, headerSize+5, headerSize+5+len(doc))
	b = append(b, doc...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(id))
	binary.LittleEndian.PutUint32(b[12:], opMsg)
	return b
}

func (c *wireClient) send(doc bson.Raw) {
	c.t.Helper()
	c.id++
	if _, err := c.conn.Write(request2frame(c.id, doc)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *wireClient) receive() (bson.Raw, error) {
	c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	var header [headerSize]byte
	if _, err := io.ReadFull(c.conn, header[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.LittleEndian.Uint32(header[:])-headerSize)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, err
	}
	return body[5:], nil
}

// call sends a command to a database and returns its reply.
func (c *wireClient) call(db string, cmd bson.D) bson.Raw {
	c.t.Helper()
	raw, err := bson.Marshal(append(cmd, bson.E{Key: "$db", Value: db}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(raw)
	reply, err := c.receive()
	if err != nil {
		c.t.Fatalf("%v: %v", cmd, err)
	}
	return reply
}
