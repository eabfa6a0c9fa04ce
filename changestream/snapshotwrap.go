package changestream

import (
	"encoding/binary"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// wrapMemory is what is allocated at once for events: all those in it are freed together.
const wrapMemory = 256 << 10

// wrap returns the events of a chunk, which have one positioner.
func (c *snapshotChunk) wrap(ns rigatoni.Namespace, token resumetoken.Token, at bson.Timestamp, p rigatoni.Positioner) ([]rigatoni.Event, error) {
	event := rigatoni.Event{}.WithPositioner(p) // but for its contents
	if c.found != nil {
		return readEvents(c.found, ns, token, at, event)
	}
	events := make([]rigatoni.Event, len(c.wrapped))
	for i, raw := range c.wrapped {
		event.Raw = raw
		events[i] = event
	}
	return events, nil
}

// readEvents are the read events of documents, each event with other contents.
func readEvents(docs []bson.Raw, ns rigatoni.Namespace, token resumetoken.Token, at bson.Timestamp, event rigatoni.Event) ([]rigatoni.Event, error) {
	head, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token.Raw()}, {Key: "operationType", Value: "read"}, {Key: "clusterTime", Value: at},
		{Key: "ns", Value: bson.D{{Key: "db", Value: ns.DB}, {Key: "coll", Value: ns.Coll}}},
	})
	if err != nil {
		return nil, err
	}
	head = head[:len(head)-1] // without its end
	left := 0                 // bytes of the events that are still to be made
	for _, doc := range docs {
		id := idOf(doc)
		if id.Type == 0 {
			return nil, fmt.Errorf("changestream: a document of %s has no _id", ns)
		}
		left += len(head) + readEventBytes(doc, id)
	}
	events := make([]rigatoni.Event, len(docs))
	var memory []byte
	for i, doc := range docs {
		id := idOf(doc)
		size := len(head) + readEventBytes(doc, id)
		buf := memory
		large := size > wrapMemory/4
		switch {
		case large:
			buf = make([]byte, 0, size) // apart, or much of the memory would stay empty
		case cap(buf)-len(buf) < size:
			buf = make([]byte, 0, min(left, wrapMemory))
		}
		left -= size
		begin := len(buf)
		buf = append(buf, head...)
		buf = append(buf, keyField...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(idDocumentBytes(id)))
		buf = append(buf, byte(id.Type), '_', 'i', 'd', 0)
		buf = append(append(buf, id.Value...), 0)
		buf = append(append(append(buf, documentField...), doc...), 0)
		binary.LittleEndian.PutUint32(buf[begin:], uint32(size))
		event.Raw = bson.Raw(buf[begin:len(buf):len(buf)])
		events[i] = event
		if !large {
			memory = buf
		}
	}
	return events, nil
}

const (
	keyField      = "\x03documentKey\x00"
	documentField = "\x03fullDocument\x00"
)

// readEventBytes is the size of a read event, but for what all events of a chunk have.
func readEventBytes(doc bson.Raw, id bson.RawValue) int {
	return len(keyField) + idDocumentBytes(id) + len(documentField) + len(doc) + 1
}

// idDocumentBytes is the size of {_id: id}.
func idDocumentBytes(id bson.RawValue) int { return 4 + len("x_id\x00") + len(id.Value) + 1 }

// idOf is the _id of a document, which the server stores as the first field. Its type is 0
// if there is none.
func idOf(doc bson.Raw) bson.RawValue {
	const name = "_id\x00"
	if len(doc) > 5+len(name) && string(doc[5:5+len(name)]) == name {
		v, _, _ := bsoncore.ReadValue(doc[5+len(name):], bsoncore.Type(doc[4]))
		return bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}
	}
	return doc.Lookup("_id")
}
