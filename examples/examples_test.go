// Package examples_test builds every example and uses it as its reader would: a
// change is written, the program reports it, is stopped, and started again.
package examples_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func TestExamples(t *testing.T) {
	server := mongod.OwnForTest(t, mongod.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	orders := client.Database("shop").Collection("orders")

	for _, name := range []string{"function", "watch", "token", "memory", "file", "redis", "mongostore", "ownstore"} {
		t.Run(name, func(t *testing.T) {
			env := append(os.Environ(), "MONGODB_URI="+server.URI())
			if name == "redis" {
				env = append(env, "REDIS_URL="+redisserver.Start(t, nil).URL())
			}
			if name == "mongostore" {
				env = append(env, "STORE_URL="+strings.Replace(server.URI(), "/?", "/rigatoni.checkpoints?", 1))
			}
			p := &program{bin: build(t, name), dir: t.TempDir(), env: env}
			p.start(t)
			first, second := name+"-1", name+"-2"
			p.waitFor(t, "streaming")
			insert(t, orders, first)
			p.waitFor(t, first)
			p.stop(t)
			if name == "memory" || name == "ownstore" {
				return // they forget; the next start would begin at now
			}
			// While nobody reads: this one must not be missed.
			insert(t, orders, second)
			p.start(t)
			p.waitFor(t, second)
			p.stop(t)
			n := 0
			for l := range strings.Lines(p.output()) {
				if strings.Contains(l, first) {
					n++
				}
			}
			if n != 1 && name != "token" { // which may have been stopped before it had saved
				t.Errorf("%s was reported %d times:\n%s", first, n, p.output())
			}
		})
	}
}

// TestWatchDoesMore filters on the server, and puts aside what it can't ship.
func TestWatchDoesMore(t *testing.T) {
	server := mongod.OwnForTest(t, mongod.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	orders := client.Database("shop").Collection("orders")
	p := &program{bin: build(t, "watch"), dir: t.TempDir(), env: append(os.Environ(), "MONGODB_URI="+server.URI())}
	p.start(t)
	p.waitFor(t, "streaming")
	for _, order := range []bson.D{
		{{Key: "_id", Value: "unpaid"}, {Key: "status", Value: "open"}},
		{{Key: "_id", Value: "nowhere"}, {Key: "status", Value: "paid"}},
	} {
		if _, err := orders.InsertOne(t.Context(), order); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, orders, "good")
	p.waitFor(t, "shipped good")
	p.stop(t)
	if out := p.output(); strings.Contains(out, "unpaid") {
		t.Errorf("the filter let an order through:\n%s", out)
	}
	dead, err := filepath.Glob(filepath.Join(p.dir, "dead", "*.ndjson"))
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters: %q, %v", dead, err)
	}
	if letter, err := os.ReadFile(dead[0]); err != nil || !strings.Contains(string(letter), `"nowhere"`) {
		t.Errorf("the dead letter is %s, %v", letter, err)
	}
}

// insert writes an order that is paid.
func insert(t *testing.T, orders *mongo.Collection, id string) {
	t.Helper()
	order := bson.D{{Key: "_id", Value: id}, {Key: "status", Value: "paid"}, {Key: "address", Value: "Via Emilia 1"}}
	if _, err := orders.InsertOne(t.Context(), order); err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", bin, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// A program is an example that runs.
type program struct {
	bin, dir string
	env      []string
	cmd      *exec.Cmd
	out      sharedlog.Buffer
}

func (p *program) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.bin)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.dir, p.env, &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
}

func (p *program) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, p.output())
	}
}

// kill ends the program at once.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Wait() // how it ended is known
}

// output is what the program has printed, and written to files.
func (p *program) output() string {
	text := p.out.String()
	files, _ := filepath.Glob(filepath.Join(p.dir, "out", "*.ndjson*"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		text += fmt.Sprintf("%s:\n%s", f, b)
	}
	return text
}

func (p *program) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(p.output(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not reported:\n%s", text, p.output())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
