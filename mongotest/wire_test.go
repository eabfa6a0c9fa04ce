package mongotest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

func rawPing(t testing.TB) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "admin"}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// nestedDoc returns documents nested to the given depth.
func nestedDoc(depth int) bson.Raw {
	const innermost, more = 5, 8 // bytes
	var doc []byte
	for left := depth - 1; left > 0; left-- {
		doc = binary.LittleEndian.AppendUint32(doc, uint32(innermost+more*left))
		doc = append(doc, byte(bson.TypeEmbeddedDocument), 'a', 0)
	}
	return append(append(doc, bsondoc.Empty...), make([]byte, depth-1)...)
}

// malformedFrames are messages of which each must close its connection.
func malformedFrames(t testing.TB) map[string][]byte {
	good := request2frame(1, rawPing(t))
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	set := func(at int, v uint32) []byte {
		return change(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b })
	}
	sized := func(b []byte) []byte { binary.LittleEndian.PutUint32(b, uint32(len(b))); return b }
	return map[string][]byte{
		"length 0":           set(0, 0),
		"length 15":          set(0, 15),
		"negative length":    set(0, 1<<31),
		"49 MB":              set(0, 49_000_000),
		"no such opcode":     set(12, 2000),
		"OP_COMPRESSED":      set(12, 2012),
		"required flag":      set(16, 4),
		"document too long":  set(21, 1000),
		"document negative":  set(21, 1<<31+5),
		"document too short": set(21, 10),
		"section kind 9":     change(func(b []byte) []byte { b[20] = 9; return b }),
		"no body":            sized(change(func(b []byte) []byte { return b[:20] })),
		"two bodies":         sized(append(bytes.Clone(good), good[20:]...)),
		"half a checksum":    sized(append(set(16, 1), 1, 2)),
		"wrong checksum":     sized(append(set(16, 1), 1, 2, 3, 4)),
		"sequence too long":  sized(append(bytes.Clone(good), 1, 100, 0, 0, 0, 'x', 0)),
		"sequence unnamed":   sized(append(bytes.Clone(good), 1, 6, 0, 0, 0, 'x', 'x')),
		"deep":               request2frame(1, nestedDoc(5000)),
		"very deep":          request2frame(1, nestedDoc(100_000)),
		"OP_QUERY, no name":  sized(set(12, opQuery)),
	}
}

// After a malformed message the connection is closed, and the server continues.
func TestMalformedMessages(t *testing.T) {
	s := Start(t)
	for name, frame := range malformedFrames(t) {
		c := dial(t, s.URI())
		if _, err := c.conn.Write(frame); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "49 MB" || strings.Contains(name, "length") || name == "deep" || name == "very deep" || c.conn.(*net.TCPConn).CloseWrite() == nil {
			if reply, err := c.receive(); err == nil {
				t.Errorf("%s: answered by %s", name, reply)
			}
		}
	}
	if reply := dial(t, s.URI()).call("admin", bson.D{{Key: "ping", Value: 1}}); reply.Lookup("ok").Double() != 1 {
		t.Error(reply)
	}
}

func TestChecksum(t *testing.T) {
	c := dial(t, Start(t).URI())
	frame := append(request2frame(7, rawPing(t)), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	frame[16] = flagChecksum
	n := len(frame) - 4
	binary.LittleEndian.PutUint32(frame[n:], crc32.Checksum(frame[:n], castagnoliCRC))
	if _, err := c.conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if reply, err := c.receive(); err != nil || reply.Lookup("ok").Double() != 1 {
		t.Errorf("%s, %v", reply, err)
	}
}

func TestMoreToCome(t *testing.T) {
	c := dial(t, Start(t).URI())
	frame := request2frame(7, rawPing(t))
	frame[16] = flagMoreToCome
	if _, err := c.conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	c.call("admin", bson.D{{Key: "ping", Value: 1}}) // has the first answer, or fails
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.conn.Read(make([]byte, 1)); n != 0 {
		t.Errorf("a reply that the client did not request: %v", err)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "nonsense"} {
		if s, err := Listen(t.Context(), Options{Address: address}); err == nil {
			s.Close()
			t.Errorf("it listens on %s", address)
		}
	}
	s, err := Listen(t.Context(), Options{Address: "localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if _, err := Listen(t.Context(), Options{OplogEntries: -1}); err == nil {
		t.Error("an oplog of -1 entries")
	}
}

// FuzzMessages reads any bytes as a message.
func FuzzMessages(f *testing.F) {
	for _, frame := range malformedFrames(f) {
		if len(frame) < 64<<10 { // changing a large one takes its time
			f.Add(frame)
		}
	}
	f.Add(request2frame(1, rawPing(f)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := readMessage(bytes.NewReader(frame))
		if err == nil && !checkDoc(m.body, 1) {
			t.Errorf("a broken document: %x", []byte(m.body))
		}
	})
}

// FuzzCommands sends any document as a command: the server replies or closes
// the connection, and never panics.
func FuzzCommands(f *testing.F) {
	s, err := Listen(f.Context(), Options{OplogEntries: 100})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	for _, text := range fuzzSeeds {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d bson.D
		if bson.UnmarshalExtJSON([]byte(text), false, &d) != nil {
			return
		}
		raw, err := bson.Marshal(append(d, bson.E{Key: "$db", Value: "f"}))
		if err != nil {
			return
		}
		m, err := readMessage(bytes.NewReader(request2frame(1, raw)))
		if err != nil {
			return
		}
		client, server := net.Pipe()
		defer client.Close()
		c := &conn{server: s, net: server, gone: make(chan struct{})}
		defer time.AfterFunc(50*time.Millisecond, c.close).Stop()
		if reply := s.answer(c, m); reply != nil && !checkDoc(reply, 1) {
			t.Errorf("a broken reply to %s: %x", text, []byte(reply))
		}
	})
}

var fuzzSeeds = []string{
	`{"insert": "c", "documents": [{"_id": 1, "a": [1, {"b": 2}]}]}`,
	`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a.1.b": 3}, "$push": {"l": {"$each": [1], "$slice": -2, "$position": 1}}, "$inc": {"n": 1}}, "upsert": true}]}`,
	`{"update": "c", "updates": [{"q": {"a": {"$elemMatch": {"b": 2}}}, "u": {"$unset": {"a": 1}, "$rename": {"n": "m"}, "$pull": {"l": {"$gt": 1}}}, "multi": true}]}`,
	`{"find": "c", "filter": {"$or": [{"a": {"$in": [1, null]}}, {"s": {"$regex": "^a"}}, {"a": {"$mod": [2, 1]}}]}, "sort": {"a": -1}, "projection": {"a.b": 1, "x": "$a"}, "limit": 3}`,
	`{"findAndModify": "c", "query": {"_id": 1}, "update": {"$mul": {"n": 2}, "$addToSet": {"l": 3}, "$pop": {"l": 1}, "$min": {"n": 3}}, "new": true}`,
	`{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": {"_data": "826A91ADB6000000022B0229296E04"}}}, {"$match": {"operationType": "insert"}}, {"$project": {"ns.db": 1}}], "cursor": {}}`,
	`{"aggregate": "c", "pipeline": [{"$set": {"a.b": ["$x", {"c": "$y"}]}}, {"$unset": ["a", "b.c"]}, {"$replaceRoot": {"newRoot": "$a"}}, {"$sort": {"a": 1}}], "cursor": {}}`,
	`{"createIndexes": "c", "indexes": [{"key": {"a.b": 1, "c": -1}, "name": "x", "unique": true, "sparse": true}]}`,
	`{"renameCollection": "f.c", "to": "f.d", "dropTarget": true}`,
	`{"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": {"failCommands": ["ping"], "errorCode": 1}}`,
	`{"killCursors": "c", "cursors": [{"$numberLong": "1"}]}`,
	`{"getMore": {"$numberLong": "1"}, "collection": "c"}`,
	`{"distinct": "c", "key": "a.b"}`, `{"count": "c", "query": {"a": {"$size": 1}}}`, `{"hello": 1, "helloOk": true}`, `{"listCollections": 1}`, `{"dropDatabase": 1}`,
}
