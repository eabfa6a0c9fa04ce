package mongod_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// childEnv makes the test binary a program that starts a server, says so, and
// waits to be killed.
const childEnv = "RIGATONI_MONGOD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	s, err := mongod.Start(context.Background(), mongod.Options{Dir: os.Getenv(childEnv)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Nodes()[0].PID())
	select {}
}

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return client
}

func insert(t *testing.T, client *mongo.Client, id int) {
	t.Helper()
	if _, err := client.Database("test").Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, client *mongo.Client) int64 {
	t.Helper()
	n, err := client.Database("test").Collection("c").CountDocuments(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForTestGivesEachTestItsOwnDatabase(t *testing.T) {
	var first string
	t.Run("a name / with : what may not be in one", func(t *testing.T) {
		db := mongod.ForTest(t)
		first = db.Name
		client := connect(t, db.URI)
		if _, err := client.Database(db.Name).Collection("c").InsertOne(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
	})
	db := mongod.ForTest(t)
	if db.Name == first {
		t.Fatalf("two tests have the database %s", first)
	}
	names, err := connect(t, db.URI).ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: first}})
	if err != nil || len(names) != 0 {
		t.Fatalf("the database of a test that has ended is still there: %v %v", names, err)
	}
}

func TestDataOutlivesKillAndShutdown(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{})
	client, uri := connect(t, s.URI()), s.URI()
	insert(t, client, 1)
	for i, end := range []func() error{s.Kill, s.Shutdown, s.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if pid := s.Nodes()[0].PID(); pid != 0 {
			t.Fatalf("process %d still runs", pid)
		}
		begin := time.Now()
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("restart took %v", time.Since(begin))
		insert(t, client, i+2)
	}
	if n := count(t, client); n != 4 {
		t.Fatalf("%d documents after the restarts, want 4", n)
	}
	if s.URI() != uri {
		t.Fatalf("the URI was %s and is %s", uri, s.URI())
	}
}

func TestStartOver(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{})
	client := connect(t, s.URI())
	id := func() (config struct {
		Config struct {
			Settings struct {
				ID bson.ObjectID `bson:"replicaSetId"`
			}
		}
	}) {
		t.Helper()
		if err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&config); err != nil {
			t.Fatal(err)
		}
		return config
	}
	insert(t, client, 1)
	before := id()
	if err := s.StartOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	client = connect(t, s.URI())
	if now := id(); now == before {
		t.Error("it is the same replica set as before")
	}
	insert(t, client, 1) // which would be there already
	auth := mongod.OwnForTest(t, mongod.Options{Auth: true})
	if err := auth.StartOver(t.Context()); err == nil {
		t.Error("StartOver with access control succeeds")
	}
}

func TestPauseFreezes(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{})
	client, node := connect(t, s.URI()), s.Nodes()[0]
	insert(t, client, 1)
	if err := node.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx, nil); err == nil {
		t.Fatal("a frozen server answered")
	}
	if err := node.Resume(); err != nil {
		t.Fatal(err)
	}
	insert(t, client, 2)
	if err := client.Disconnect(t.Context()); err != nil { // would wait for the server later
		t.Fatal(err)
	}
	if err := node.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := node.Shutdown(); err != nil {
		t.Fatalf("a frozen node can't be shut down: %v", err)
	}
}

func TestThreeNodesStepDown(t *testing.T) {
	begin := time.Now()
	s := mongod.OwnForTest(t, mongod.Options{Nodes: 3})
	t.Logf("start took %v", time.Since(begin))
	old, err := s.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := connect(t, s.URI())
	insert(t, client, 1)
	begin = time.Now()
	if err := s.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, client, 2)
	t.Logf("step-down took %v", time.Since(begin))
	next, err := s.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if next == old {
		t.Fatal("the primary is the same after it stepped down")
	}
	begin = time.Now()
	if err := next.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Primary(t.Context()); err != nil {
		t.Fatalf("no primary after one of three was killed: %v", err)
	}
	t.Logf("election took %v", time.Since(begin))
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, client); n != 2 {
		t.Fatalf("%d documents, want 2", n)
	}
}

func TestStepDownOfOneNode(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{})
	if err := s.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, connect(t, s.URI()), 1)
}

func TestAuth(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{Auth: true})
	insert(t, connect(t, s.URI()), 1)

	_, rest, _ := strings.Cut(s.URI(), "@")
	_, err := connect(t, "mongodb://"+rest).Database("test").Collection("c").CountDocuments(t.Context(), bson.D{})
	var refused mongo.CommandError
	if !errors.As(err, &refused) || refused.Code != 13 {
		t.Fatalf("without credentials: %v, want error 13", err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("a set with access control does not restart: %v", err)
	}
}

func TestFailPoints(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{})
	client := connect(t, s.URI())
	cmd := bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
		{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"find"}}, {Key: "errorCode", Value: 286}}},
	}
	if err := client.Database("admin").RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
	err := client.Database("test").Collection("c").FindOne(t.Context(), bson.D{}).Err()
	var failed mongo.CommandError
	if !errors.As(err, &failed) || failed.Code != 286 {
		t.Fatalf("the fail point gave %v", err)
	}
}

func TestStopRemovesEverything(t *testing.T) {
	dir := t.TempDir()
	s := mongod.OwnForTest(t, mongod.Options{Dir: dir})
	pid := s.Nodes()[0].PID()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pid, dir)
	if err := s.Stop(); err != nil {
		t.Fatalf("second Stop: %v", err)
	}
}

func TestNothingOutlivesAKilledParent(t *testing.T) {
	mongod.ForTest(t) // skips where there is no server
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	n, _ := out.Read(buf)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatalf("the child says %q", buf[:n])
	}
	child.Process.Kill()
	child.Wait()
	wantGone(t, pid, dir)
}

func wantGone(t *testing.T, pid int, dir string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		alive := syscall.Kill(pid, 0) == nil
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !alive && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d alive: %v; left behind: %v", pid, alive, left)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for field, o := range map[string]mongod.Options{
		"Nodes": {Nodes: 8}, "OplogMB": {OplogMB: -1}, "SyncDelay": {SyncDelay: -1},
	} {
		if _, err := mongod.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestStartSaysWhatMongodSaid(t *testing.T) {
	mongod.ForTest(t)
	_, err := mongod.Start(t.Context(), mongod.Options{Args: []string{"--setParameter", "noSuchParameter=1"}})
	if err == nil || !strings.Contains(err.Error(), "noSuchParameter") {
		t.Fatalf("%v", err)
	}
}
