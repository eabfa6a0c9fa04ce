package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(deadline))
	if err != nil {
		t.Fatal(err)
	}
	// With a context that is over, as the test's is by then: the server may be gone,
	// and saying goodbye to it would take the driver half a minute.
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	return client
}

// insertAndSee inserts a document and reads its event.
func insertAndSee(t *testing.T, coll *mongo.Collection) (token bson.Raw) {
	t.Helper()
	stream, err := coll.Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close(context.Background())
	if _, err := coll.InsertOne(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	if !stream.Next(t.Context()) {
		t.Fatalf("no event: %v", stream.Err())
	}
	return stream.ResumeToken()
}

// The URI is the first line, the server is there by then, and nothing else is
// written, whichever signal ends it.
func TestMongotestServesUntilASignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			c, out := startReading(t, "mongotest")
			uri := strings.TrimSpace(c.readLine(out, ""))
			insertAndSee(t, connect(t, uri).Database("shop").Collection("orders"))
			c.signal(sig)
			if code := c.exit(); code != exitOK || len(c.said) > 0 {
				t.Errorf("exit code %d, want %d; it said %q", code, exitOK, c.said)
			}
			if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
				t.Errorf("after the URI it wrote %q, %v", rest, err)
			}
		})
	}
}

func TestMongotestListensWhereItIsTold(t *testing.T) {
	c, out := startReading(t, "mongotest")
	uri := strings.TrimSpace(c.readLine(out, ""))
	address := strings.TrimSuffix(strings.TrimPrefix(uri, "mongodb://"), "/?replicaSet=rs0")

	second, _ := startReading(t, "mongotest", "--listen", address)
	want := "rigatoni: --listen " + address + ": address already in use (port 0 takes any that is free)"
	if code := second.exit(); code != exitFailure || len(second.said) != 1 || second.said[0] != want {
		t.Errorf("on an address in use: exit code %d, %q\nwant %d, %q", code, second.said, exitFailure, want)
	}

	c.signal(syscall.SIGTERM)
	c.exit()
	third, out := startReading(t, "mongotest", "--listen", address)
	if got := strings.TrimSpace(third.readLine(out, "")); got != uri {
		t.Errorf("asked to listen on %s, it listens on %s", address, got)
	}
}

func TestMongotestForgetsItsOplog(t *testing.T) {
	for _, c := range []struct {
		flags  []string
		forgot bool
	}{
		{nil, false},
		{[]string{"--oplog-entries", "20"}, true},
	} {
		child, out := startReading(t, append([]string{"mongotest"}, c.flags...)...)
		coll := connect(t, strings.TrimSpace(child.readLine(out, ""))).Database("shop").Collection("orders")
		token := insertAndSee(t, coll)
		for range 50 {
			if _, err := coll.InsertOne(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token))
		var failed mongo.CommandError
		if forgot := errors.As(err, &failed) && failed.Code == 286; forgot != c.forgot {
			t.Errorf("%v: forgotten: %v, want %v (%v)", c.flags, forgot, c.forgot, err)
		}
		if err == nil {
			stream.Close(t.Context())
		}
	}
}

func TestMongotestGivesTokensOfVersion2(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  resumetoken.Format
	}{
		{nil, resumetoken.FormatV1},
		{[]string{"--v2-tokens"}, resumetoken.FormatV2},
	} {
		child, out := startReading(t, append([]string{"mongotest"}, c.flags...)...)
		coll := connect(t, strings.TrimSpace(child.readLine(out, ""))).Database("shop").Collection("orders")
		token, err := resumetoken.New(insertAndSee(t, coll))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := token.Decode(); err != nil || d.Format != c.want {
			t.Errorf("%v: a token of %v, want %v (%v)", c.flags, d.Format, c.want, err)
		}
	}
}

// It serves as long as somebody holds its input, and no longer. (Without the flag
// its input doesn't matter: in the other tests it has none.)
func TestMongotestStopsOnEOF(t *testing.T) {
	cmd := exec.Command(testbinary.Path(t), "mongotest", "--stop-on-eof")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	uri, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "not the end\n"); err != nil {
		t.Fatal(err)
	}
	insertAndSee(t, connect(t, strings.TrimSpace(uri)).Database("shop").Collection("orders"))
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("at the end of its input: %v", err)
	}
}
