package mongotest

import (
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// The version that the server reports.
const (
	serverVersion  = "6.0.27"
	maxWireVersion = 17
)

func isHello(name string) bool {
	return name == "hello" || strings.EqualFold(name, "isMaster")
}

// A topology is what hello says about the replica set.
type topology struct {
	mu           sync.Mutex
	processID    bson.ObjectID
	replicaSetID bson.ObjectID
	counter      int64
	stepDowns    int
	down         bool
	changed      chan struct{} // closed and replaced by every change
}

func (t *topology) primary() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.down
}

func (t *topology) version(d *bsondoc.Builder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.versionLocked(d)
}

func (t *topology) versionLocked(d *bsondoc.Builder) {
	at := d.Open(bson.TypeEmbeddedDocument, "topologyVersion")
	d.ObjectID("processId", t.processID).Int64("counter", t.counter)
	d.Close(at)
}

// set makes the server a secondary or the primary, and wakes waiting monitors.
// It returns the number of the step-down.
func (t *topology) set(down bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if down {
		t.stepDowns++
	}
	if t.down != down {
		t.down = down
		t.counter++
		close(t.changed)
		t.changed = make(chan struct{})
	}
	return t.stepDowns
}

// current reports whether a client knows the current state.
func (t *topology) current(known bson.Raw) (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := known.Lookup("processId").ObjectIDOK()
	counter, isInt := known.Lookup("counter").AsInt64OK()
	return ok && isInt && id == t.processID && counter == t.counter, t.changed
}

// maxHello is how long a monitor waits at most for a change. mongod lets it wait for
// maxAwaitTimeMS, ten seconds by default; but some drivers sometimes miss a change, or
// want to disconnect, and then wait for the next reply, which in a test is to come soon.
const maxHello = 500 * time.Millisecond

// hello replies to a handshake or a monitor. A monitor that knows the current
// state gets its reply when the state changes or after a while; replied to at
// once, it would spin.
func hello(r *request) (*bsondoc.Builder, error) {
	r.remember()
	if known, ok := r.args["topologyVersion"].DocumentOK(); ok {
		wait, ok := bsondoc.Int(r.args["maxAwaitTimeMS"])
		if !ok || wait < 0 {
			return nil, cmderr.Errorf(31372, "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'")
		}
		if current, changed := r.server.topology.current(known); current {
			if err := r.await(changed, min(time.Duration(wait)*time.Millisecond, maxHello)); err != nil {
				return nil, err
			}
		}
	}
	return r.server.describe(r), nil
}

// remember stores what the first hello says about the client.
func (r *request) remember() {
	if r.flag("helloOk", false) || r.name == "hello" {
		r.conn.helloOK = true
	}
	if client, ok := r.args["client"].DocumentOK(); ok {
		if name, ok := client.Lookup("application", "name").StringValueOK(); ok {
			r.conn.appName = name
		}
	}
}

// await waits for a channel, a timeout, or the end of the connection.
func (r *request) await(ch <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	case <-r.conn.gone:
		return errHangUp
	case <-r.server.stop:
		return errHangUp
	}
	return nil
}

func (s *Server) describe(r *request) *bsondoc.Builder {
	d := bsondoc.New()
	if r.flag("helloOk", false) {
		d.Bool("helloOk", true)
	}
	s.topology.mu.Lock()
	defer s.topology.mu.Unlock()
	down := s.topology.down
	s.topology.versionLocked(d)
	d.Strings("hosts", []string{s.name}).Str("setName", replicaSetName).Int32("setVersion", 1)
	if r.name == "hello" {
		d.Bool("isWritablePrimary", !down)
	} else {
		d.Bool("ismaster", !down)
	}
	d.Bool("secondary", down)
	if !down {
		d.Str("primary", s.name)
	}
	d.Str("me", s.name)
	if !down {
		d.ObjectID("electionId", s.electionID())
	}
	s.lastWrite(d)
	return d.Int32("maxBsonObjectSize", bsondoc.MaxSize).Int32("maxMessageSizeBytes", maxMessageSize).
		Int32("maxWriteBatchSize", maxWriteBatch).Date("localTime", time.Now()).Int32("logicalSessionTimeoutMinutes", 30).
		Int32("connectionId", int(r.conn.id)).Int32("minWireVersion", 0).Int32("maxWireVersion", maxWireVersion).Bool("readOnly", false)
}

// electionID increases with the terms; drivers compare it.
func (s *Server) electionID() (id bson.ObjectID) {
	id[0], id[1], id[2], id[3] = 0x7F, 0xFF, 0xFF, 0xFF
	term := s.topology.stepDowns + 1
	id[10], id[11] = byte(term>>8), byte(term)
	return id
}

func (s *Server) lastWrite(d *bsondoc.Builder) {
	ts := s.store.lastTime()
	optime := func(name string) {
		at := d.Open(bson.TypeEmbeddedDocument, name)
		d.Timestamp("ts", ts).Int64("t", int64(s.topology.stepDowns)+1)
		d.Close(at)
	}
	at := d.Open(bson.TypeEmbeddedDocument, "lastWrite")
	optime("opTime")
	d.Date("lastWriteDate", time.Unix(int64(ts.T), 0))
	optime("majorityOpTime")
	d.Date("majorityWriteDate", time.Unix(int64(ts.T), 0))
	d.Close(at)
}
