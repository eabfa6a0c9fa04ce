package ndjson

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
)

// TestContract runs the suite for destinations: each operation on the disk fails, is where
// the process dies, or where it freezes.
func TestContract(t *testing.T) {
	for what, o := range map[string]Options{"one file": {MaxFileBytes: -1}, "a file for each event": {MaxFileBytes: 1}} {
		t.Run(what, func(t *testing.T) {
			destinationtest.Run(t, func(t *testing.T) destinationtest.Harness { return harness(t, o) })
		})
	}
}

func harness(t *testing.T, o Options) destinationtest.Harness {
	dir := tempDir(t)
	shared := newDisk(tempDir(t))
	o.Logger = quiet
	open := func(p *process) (*Files, error) {
		d, err := Open(dir, &o)
		if err == nil {
			d.fs = p
		}
		return d, err
	}
	return destinationtest.Harness{
		ExactlyOnce: true,
		Short:       !campaign.Full(t),
		Open:        func(context.Context) (rigatoni.Destination, error) { return open(&process{disk: shared}) },
		OpenFaulty: func(_ context.Context, f destinationtest.Fault) (rigatoni.Destination, func() bool, error) {
			p, reached := faulty(shared, f)
			d, err := open(p)
			return d, reached, err
		},
		Read: func(_ context.Context, key string) ([]destinationtest.Record, error) {
			return finishedRecords(dir, key)
		},
		Refused: func(int32) rigatoni.Event { return rigatoni.Event{Raw: bson.Raw{5, 0, 0, 0, 1}} },
	}
}

// faulty is a process with a fault at one of its operations on the disk.
func faulty(d *disk, f destinationtest.Fault) (p *process, reached func() bool) {
	var steps atomic.Int64
	p = &process{disk: d}
	p.fault = func() error {
		if steps.Add(1)-1 != int64(f.Step) {
			return nil
		}
		switch f.Kind {
		case destinationtest.Fail:
			return syscall.EIO
		case destinationtest.LoseAnswer:
			p.lose = true
		case destinationtest.Crash:
			p.kill()
			return errDead
		case destinationtest.Freeze:
			<-f.Thaw
		}
		return nil
	}
	return p, func() bool { return steps.Load() > int64(f.Step) }
}

// finishedRecords is what a consumer of finished files finds.
func finishedRecords(dir, key string) (records []destinationtest.Record, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		n, _ := parseFinished(filepath.Base(path))
		if n.stem != stemOf(key) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			var ev struct {
				DocumentKey struct {
					ID int32 `json:"_id"`
				}
				FullDocument struct{ N int32 }
			}
			if err := json.Unmarshal([]byte(line), &ev); err != nil {
				return nil, err
			}
			records = append(records, destinationtest.Record{ID: ev.DocumentKey.ID, N: ev.FullDocument.N})
		}
	}
	return records, nil
}
