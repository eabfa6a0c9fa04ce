package snapcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A Journal is a destination for a process that is killed: a file of its own, of all
// that is delivered to it. A record that the kill cut off was not delivered, since
// Deliver did not return.
type Journal struct {
	// Slow is about how many events are delivered in a second; 0: as fast as may be.
	Slow int
	file *os.File
}

// journalName is the file of the n-th process.
func journalName(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("journal-%04d", n))
}

// OpenJournal makes the journal of the n-th process.
func OpenJournal(dir string, n int) (*Journal, error) {
	f, err := os.OpenFile(journalName(dir, n), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return &Journal{file: f}, err
}

// Open implements rigatoni.Destination: it begins a run.
func (j *Journal) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	run, err := bson.Marshal(bson.D{{Key: "run", Value: true}, {Key: "resumed", Value: !o.FirstStart}, {Key: "from", Value: o.ClusterTime}})
	if err != nil {
		return nil, err
	}
	_, err = j.file.Write(run)
	return j, err
}

// Deliver implements rigatoni.Sink.
func (j *Journal) Deliver(_ context.Context, b *rigatoni.Batch) error {
	const most = 64 // in a write
	var buf []byte
	for i, ev := range b.Events {
		buf = append(buf, ev.Raw...)
		if (i+1)%most != 0 && i < len(b.Events)-1 {
			continue
		}
		if _, err := j.file.Write(buf); err != nil {
			return rigatoni.Permanent(err) // half of it may be written
		}
		if j.Slow > 0 {
			time.Sleep(time.Duration(i%most+1) * time.Second / time.Duration(j.Slow))
		}
		buf = buf[:0]
		b.Done(i + 1)
	}
	return nil
}

// A tail reads the journals of processes that follow one another.
type tail struct {
	dir  string
	n    int // of the journal
	file *os.File
	left []byte // of a record that is not whole yet
	run  int
	to   *Recorder
}

// poll records what has been written to the present journal since.
func (t *tail) poll() error {
	if t.file == nil {
		f, err := os.Open(journalName(t.dir, t.n))
		if errors.Is(err, os.ErrNotExist) {
			return nil // the process has only just begun
		}
		if err != nil {
			return err
		}
		t.file = f
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := t.file.Read(buf)
		t.left = append(t.left, buf[:n]...)
		t.take()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take records the whole records.
func (t *tail) take() {
	at := 0
	for len(t.left)-at >= 4 {
		size := int(binary.LittleEndian.Uint32(t.left[at:]))
		if len(t.left)-at < size {
			break
		}
		t.record(bson.Raw(t.left[at : at+size]))
		at += size
	}
	t.left = append([]byte(nil), t.left[at:]...)
}

func (t *tail) record(raw bson.Raw) {
	if _, err := raw.LookupErr("run"); err != nil {
		t.to.Record(t.run, rigatoni.Event{Raw: raw})
		return
	}
	var run struct {
		Resumed bool           `bson:"resumed"`
		From    bson.Timestamp `bson:"from"`
	}
	if err := bson.Unmarshal(raw, &run); err != nil {
		panic(err) // this package wrote it
	}
	t.run = t.to.Begin(Run{Resumed: run.Resumed, From: run.From})
}

// next goes on to the journal of the next process, the last one being dead.
func (t *tail) next() error {
	err := t.poll()
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	t.n, t.file, t.left = t.n+1, nil, nil
	return err
}
