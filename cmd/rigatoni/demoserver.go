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

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// startServer starts a server if none was given, and prints which one it is. stop
// stops it, or cleans up the given one. If mongotest ends before that, died is
// called.
func (d *demo) startServer(ctx context.Context, died func(error)) (stop func() error, err error) {
	switch {
	case d.flags.source != "":
		d.uri = d.flags.source
		d.printf("  server    %s\n", config.Redact(d.flags.source))
		return d.dropDatabase, nil
	case d.flags.mongod:
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
			died(fmt.Errorf("the demo's server, mongotest (process %d), ended unexpectedly: %s", server.cmd.Process.Pid, server.ending()))
		}
	}()
	d.uri = server.uri
	d.printf("  server    mongotest, a small server for tests, started as process %d (%s)\n", server.cmd.Process.Pid, server.uri)
	return server.stop, nil
}

func (d *demo) startMongod(ctx context.Context) (stop func() error, err error) {
	bin, err := mongod.Find(ctx, mongod.FindOptions{})
	if errors.Is(err, mongod.ErrNotFound) {
		return nil, errors.New("no mongod was found on this machine; run \"make demo\" in the repository, which fetches one first,\n" +
			"  name a replica set with --source, or omit --mongod")
	}
	if err != nil {
		return nil, err
	}
	server, err := mongod.Start(ctx, mongod.Options{Binary: bin})
	if err != nil {
		return nil, fmt.Errorf("starting a MongoDB server: %w", err)
	}
	d.uri = server.URI()
	d.printf("  server    MongoDB %s, started for the demo (%s)\n", server.Version(), bin.Path)
	return server.Stop, nil
}

// dropDatabase removes what was written to the user's server.
func (d *demo) dropDatabase() error {
	if d.flags.keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, err := mongoclient.Connect(options.Client().ApplyURI(d.uri))
	if err != nil {
		return fmt.Errorf("the database %s could not be dropped", d.database)
	}
	defer client.Disconnect(ctx)
	if err := client.Database(d.database).Drop(ctx); err != nil {
		return fmt.Errorf("the database %s could not be dropped: %w", d.database, err)
	}
	return nil
}

// testServer is "rigatoni mongotest" as a process. It ends with this one even if
// that is killed: its standard input is a pipe that no other process holds.
type testServer struct {
	cmd  *exec.Cmd
	uri  string
	said bytes.Buffer // standard error; read it when the process is gone

	asked   context.Context // done when it has been asked to stop
	ask     context.CancelFunc
	gone    chan struct{}
	unasked bool // it ended by itself; read it when the process is gone
}

// stopTime is how long it may take to stop.
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
	line, _ := bufio.NewReader(stdout).ReadString('\n') // it fails when the process ends, whose state says why
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

// ending describes how the process ended, with its error output.
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
	return fmt.Errorf("mongotest did not stop cleanly: %s", s.ending())
}
