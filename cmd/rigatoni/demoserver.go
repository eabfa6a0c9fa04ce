package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// startServer starts a server if none was given, and says which one it is. Stop
// undoes it, and what was done to the one given. A server that ends before that
// calls died, if it is mongotest.
func (d *demo) startServer(ctx context.Context, died func(error)) (stop func() error, err error) {
	switch {
	case d.source != "":
		d.uri = d.source
		d.printf("  server    %s\n", config.Redact(d.source))
		return d.dropDatabase, nil
	case d.mongod:
		return d.startMongod(ctx)
	}
	return d.startMongotest(ctx, died)
}

func (d *demo) startMongotest(ctx context.Context, died func(error)) (stop func() error, err error) {
	server, err := startTestServer(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting mongotest: %w", err)
	}
	go func() {
		if <-server.gone; server.unasked {
			died(fmt.Errorf("the demo's server, mongotest (process %d), has ended in the middle: %s", server.cmd.Process.Pid, server.ending()))
		}
	}()
	d.uri = server.uri
	d.printf("  server    mongotest, a small one for tests, started for this as process %d (%s)\n", server.cmd.Process.Pid, server.uri)
	return server.stop, nil
}

func (d *demo) startMongod(ctx context.Context) (stop func() error, err error) {
	bin, err := mongod.Find(ctx, mongod.FindOptions{})
	if errors.Is(err, mongod.ErrNotFound) {
		return nil, errors.New("there is no mongod on this machine to start; run \"make demo\" in the repository, which fetches one first,\n" +
			"  give a replica set with --source, or leave --mongod out")
	}
	if err != nil {
		return nil, err
	}
	server, err := mongod.Start(ctx, mongod.Options{Binary: bin})
	if err != nil {
		return nil, fmt.Errorf("starting a MongoDB server: %w", err)
	}
	d.uri = server.URI()
	d.printf("  server    MongoDB %s, started for this (%s)\n", server.Version(), bin.Path)
	return server.Stop, nil
}

// dropDatabase takes away what was written to the user's own server.
func (d *demo) dropDatabase() error {
	if d.keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(d.uri))
	if err != nil {
		return fmt.Errorf("the database %s could not be dropped", d.database)
	}
	defer client.Disconnect(ctx)
	if err := client.Database(d.database).Drop(ctx); err != nil {
		return fmt.Errorf("the database %s could not be dropped: %w", d.database, err)
	}
	return nil
}

// testServer is "rigatoni mongotest" as a process. It ends with this one, however
// that ends: its standard input is a pipe that nobody else holds.
type testServer struct {
	cmd  *exec.Cmd
	uri  string
	said bytes.Buffer // on standard error; to be read when it is gone

	asked   context.Context // done when it has been asked to end
	ask     context.CancelFunc
	gone    chan struct{}
	unasked bool // it has ended by itself; to be read when it is gone
}

// stopTime is how long it may take to end when asked to.
const stopTime = 10 * time.Second

func startTestServer(ctx context.Context) (*testServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	s := &testServer{gone: make(chan struct{})}
	// When ctx ends, the server is still needed by those that work on it.
	s.asked, s.ask = context.WithCancel(context.WithoutCancel(ctx))
	s.cmd = exec.CommandContext(s.asked, self, "mongotest", "--stop-on-eof")
	s.cmd.SysProcAttr, s.cmd.Stderr = apart(), &s.said
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Cancel, s.cmd.WaitDelay = stdin.Close, stopTime
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	stopAsking := context.AfterFunc(ctx, s.ask)
	line, _ := bufio.NewReader(stdout).ReadString('\n') // it fails when the process ends, which says why
	stopAsking()
	go s.wait()
	if line == "" {
		<-s.gone
		return nil, errors.New(s.ending())
	}
	s.uri = strings.TrimSpace(line)
	return s, nil
}

func (s *testServer) wait() {
	_ = s.cmd.Wait() // the state says it
	s.unasked = s.asked.Err() == nil
	close(s.gone)
}

// ending is how the process ended, with what it said.
func (s *testServer) ending() string {
	how := s.cmd.ProcessState.String()
	if said := strings.TrimSpace(s.said.String()); said != "" {
		how += "\n" + said
	}
	return how
}

// stop returns when the process is gone.
func (s *testServer) stop() error {
	s.ask()
	<-s.gone
	if s.unasked || s.cmd.ProcessState.Success() {
		return nil
	}
	return fmt.Errorf("mongotest did not stop as it should: %s", s.ending())
}
