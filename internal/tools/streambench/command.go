package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A target is a server that the command delivers to, started again for each measurement.
type target func(ctx context.Context) (url string, stop func() error, err error)

func toPostgres(query string) target {
	return func(ctx context.Context) (string, func() error, error) {
		s, err := pgserver.New(ctx, nil)
		if err != nil {
			return "", nil, err
		}
		return s.URL() + query, s.Close, nil
	}
}

func toMongoDB(ctx context.Context) (string, func() error, error) {
	s, err := mongod.Start(ctx, mongod.Options{OplogMB: 990})
	if err != nil {
		return "", nil, err
	}
	return s.URI(), s.Stop, nil
}

// buildCommand builds the command rigatoni.
func buildCommand() (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "streambench-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "rigatoni")
	out, err := exec.Command("go", "build", "-o", path, "github.com/rigatoni-etl/rigatoni/cmd/rigatoni").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building the command: %w\n%s", err, out)
	}
	return path, func() { _ = os.RemoveAll(dir) }, err
}

// runCommand measures the command, from its start until it has delivered everything.
func runCommand(ctx context.Context, binary, source string, start bson.Timestamp, events int, to target) (r result, err error) {
	url, stop, err := to(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	addr, err := freeAddr()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, binary, "run", "--source", source, "--database", database, "--collections", collection, "--to", url,
		"--start", fmt.Sprintf("%d.%d", start.T, start.I), "--http", addr, "--log-level", "error")
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for delivered(addr) < uint64(events) {
		select {
		case err := <-ended:
			return r, fmt.Errorf("the command ended early: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.Seconds = time.Since(begin).Seconds()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	if err := <-ended; err != nil {
		return r, err
	}
	r.CPUSeconds = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.RSSKiB = int64(u.Maxrss)
	}
	return r, nil
}

// delivered is how many events the command has delivered, as its status says; 0 while
// nobody answers.
func delivered(addr string) uint64 {
	resp, err := http.Get("http://" + addr + "/status")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var status struct{ Streams []struct{ Events uint64 } }
	if json.NewDecoder(resp.Body).Decode(&status) != nil || len(status.Streams) == 0 {
		return 0
	}
	return status.Streams[0].Events
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
