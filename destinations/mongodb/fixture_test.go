package mongodb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/mongodb"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// TestMain has more tests run at once than there are processors: they wait for the server.
func TestMain(m *testing.M) {
	if args := os.Getenv(benchEnv); args != "" {
		if err := beMeasured(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	_ = flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

// A lab is a database of a test's own on the shared server.
type lab struct {
	uri, db string
	client  *mongo.Client
}

func newLab(t testing.TB) lab {
	t.Helper()
	db := mongod.ForTest(t)
	return lab{db.URI, db.Name, connect(t, db.URI, nil)}
}

func connect(t testing.TB, uri string, f *faults) *mongo.Client {
	t.Helper()
	o := options.Client().ApplyURI(uri)
	if f != nil {
		o.SetDialer(f)
		if f.Kind == destinationtest.Crash {
			o.SetServerSelectionTimeout(50 * time.Millisecond) // there is no process to wait for a server
		}
	}
	c, err := mongo.Connect(o)
	must(t, err)
	for began := time.Now(); f != nil; {
		if err := c.Ping(t.Context(), nil); err == nil {
			break
		} else if time.Since(began) > callTimeout {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Disconnect(ended) // the error is that context's
	})
	return c
}

// options are those of a mirror of which everything is in the lab's databases.
func (l lab) options() *mongodb.Options {
	return &mongodb.Options{
		Target: l.db + "_{database}.{collection}", Checkpoints: l.db + ".checkpoints",
		CallTimeout: callTimeout, TransactionTimeout: callTimeout,
	}
}

func (l lab) mirrored(coll string) *mongo.Collection {
	return l.client.Database(l.db + "_shop").Collection(coll)
}

const (
	callTimeout = 20 * time.Second
	// faultyTimeout limits the transactions of a process that has a fault: the driver repeats a
	// commit for that long.
	faultyTimeout = 2 * time.Second
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// faults is what goes wrong between a process and the server. Each command that the process
// sends is a step, but for those of the driver itself. Where the driver repeats a command that
// has failed, that goes wrong as well, so that the process sees the fault.
type faults struct {
	destinationtest.Fault
	steps atomic.Int64
	dead  atomic.Bool
	again atomic.Pointer[string] // the command that has failed
}

// strikes reports whether a command is the one that goes wrong.
func (f *faults) strikes(command string) bool {
	if isDrivers(command) {
		return false
	}
	failed := f.again.Swap(nil)
	if int(f.steps.Add(1))-1 == f.Step {
		f.again.Store(&command)
		return true
	}
	repeats := failed != nil && *failed == command && (f.Kind == destinationtest.Fail || f.Kind == destinationtest.LoseAnswer)
	if repeats && command == "commitTransaction" { // which the driver repeats as long as it may
		f.again.Store(&command)
	}
	return repeats
}

var errFault = errors.New("a fault of the test")

func (f *faults) reached() bool { return int(f.steps.Load()) > f.Step }

func (f *faults) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.dead.Load() {
		return nil, errFault
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, faults: f}, nil
}

type faultyConn struct {
	net.Conn
	faults *faults
	lost   atomic.Bool // the next answer is
}

func (c *faultyConn) Write(p []byte) (int, error) {
	f := c.faults
	if f.dead.Load() {
		c.Close()
		return 0, errFault
	}
	if f.strikes(command(p)) {
		switch f.Kind {
		case destinationtest.Fail:
			c.Close()
			return 0, errFault
		case destinationtest.Crash:
			f.dead.Store(true)
			c.Close()
			return 0, errFault
		case destinationtest.LoseAnswer:
			c.lost.Store(true)
		case destinationtest.Freeze:
			<-f.Thaw
		}
	}
	return c.Conn.Write(p)
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p) // the server has done it when it answers
	if err == nil && (c.lost.Load() || c.faults.dead.Load()) {
		c.Close()
		return 0, errFault
	}
	return n, err
}

// command is the name of the command in a message.
func command(p []byte) string {
	const opMsg, header = 2013, 16 + 4 + 1
	if len(p) < header+5 || binary.LittleEndian.Uint32(p[12:]) != opMsg {
		return ""
	}
	name, _, _ := bytes.Cut(p[header+5:], []byte{0})
	return string(name)
}

func isDrivers(command string) bool {
	switch command {
	case "", "hello", "isMaster", "ismaster", "endSessions", "ping":
		return true
	}
	return false
}

// number is the field n of a document, 0 if it has none.
func number(doc bson.Raw) int32 {
	n, _ := doc.Lookup("n").Int32OK()
	return n
}

// keyed is a TxDestination whose function knows the key: it inserts a row for each event.
type keyed struct {
	*mongodb.TxDestination
	client *mongo.Client
	db     string
	o      mongodb.TxOptions
}

func newKeyed(client *mongo.Client, db string, timeout time.Duration) (keyed, error) {
	o := mongodb.TxOptions{Checkpoints: db + ".checkpoints", CallTimeout: callTimeout, TransactionTimeout: timeout}
	d, err := mongodb.OpenTx(client, nil, &o)
	return keyed{d, client, db, o}, err
}

func (d keyed) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	own, err := mongodb.OpenTx(d.client, insert(rows(d.client, d.db), o.Key), &d.o)
	if err != nil {
		return nil, err
	}
	return own.Open(ctx, o)
}

func rows(c *mongo.Client, db string) *mongo.Collection { return c.Database(db).Collection("rows") }

// insert writes a row for each event: its place is the number of rows of the key.
func insert(rows *mongo.Collection, key string) mongodb.TxFunc {
	return func(ctx context.Context, b *rigatoni.Batch) error {
		before, err := rows.CountDocuments(ctx, bson.D{{Key: "key", Value: key}})
		if err != nil {
			return err
		}
		var docs []any
		for i, ev := range b.Events {
			n := number(ev.FullDocument())
			if n < 0 {
				return rigatoni.Permanent(errors.New("n is negative"))
			}
			docs = append(docs, bson.D{{Key: "key", Value: key}, {Key: "seq", Value: before + int64(i)}, {Key: "id", Value: ev.DocumentKey().Lookup("_id")}, {Key: "n", Value: n}})
		}
		_, err = rows.InsertMany(ctx, docs)
		return err
	}
}

// readRows reads the rows of a key.
func readRows(c *mongo.Client, db string) func(context.Context, string) ([]destinationtest.Record, error) {
	return func(ctx context.Context, key string) ([]destinationtest.Record, error) {
		cur, err := rows(c, db).Find(ctx, bson.D{{Key: "key", Value: key}}, options.Find().SetSort(bson.D{{Key: "seq", Value: 1}}))
		if err != nil {
			return nil, err
		}
		var found []struct{ ID, N int32 }
		if err := cur.All(ctx, &found); err != nil {
			return nil, err
		}
		records := make([]destinationtest.Record, len(found))
		for i, r := range found {
			records[i] = destinationtest.Record{ID: r.ID, N: r.N}
		}
		return records, nil
	}
}
