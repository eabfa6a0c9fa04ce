package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// DeadLetters keeps the events that a destination refused, one line per event, in a
// file for each key: "shop" writes shop.ndjson, and "shop/orders"
// shop%2forders.ndjson, as [Files] names them. It is safe for concurrent use, also
// by several processes.
//
// A line is a JSON object:
//
//	at           when the event was refused
//	key, stream  of the checkpoint, and of the stream
//	error        of the last attempt
//	attempts     how often its delivery was tried
//	namespace    "shop.orders"
//	documentKey  of the document; absent for events about no single document
//	clusterTime  of the event, {"t":seconds,"i":increment}
//	event        the event as the server sent it, in the form of Options.Format; its
//	             _id is the resume token
//	bson         instead of event: the event's bytes in base64, where they are not
//	             valid BSON
//
// The same event may be there twice, after a crash between its line and the
// checkpoint. A file may be renamed at any time: a letter that is being written goes
// with it, and the next one begins another file.
type DeadLetters struct {
	dir     string
	mode    extjson.Mode
	open    func(path string, flag int) (letterFile, error)
	syncDir func(path string) error

	mu sync.Mutex
}

// A letterFile is what dead letters need of an *os.File.
type letterFile interface {
	file
	lock() use
}

type osLetters struct{ osFile }

func (f osLetters) lock() use { return lock(f.File) }

func openLetters(path string, flag int) (letterFile, error) {
	f, err := openRegular(path, os.O_RDWR|os.O_APPEND|flag)
	if err != nil {
		return nil, err
	}
	return osLetters{osFile{f}}, nil
}

var _ rigatoni.DeadLetters = (*DeadLetters)(nil)

// OpenDeadLetters returns dead letters in dir, which is created if need be. It fails if
// no file can be created there: a letter that can't be written would hold up its stream.
// A letter that a crash left torn at the end of a file is cut off. It uses o.Format and
// o.Logger, and refuses the other options.
func OpenDeadLetters(dir string, o *Options) (*DeadLetters, error) {
	if o != nil && (o.MaxFileBytes != 0 || o.MaxFileAge != 0) {
		return nil, errors.New("ndjson: MaxFileBytes and MaxFileAge are for the files of a destination; dead letters have one file for each key")
	}
	c, err := o.orDefaults()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, errors.New("ndjson: no directory is given for dead letters")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("ndjson: %w", err)
	}
	if err := mkdir(osFS{}, dir); err != nil {
		return nil, fmt.Errorf("ndjson: %w", err)
	}
	d := &DeadLetters{dir: dir, mode: c.Format, open: openLetters, syncDir: osFS{}.syncDir}
	if err := errors.Join(d.probe(), d.mendAll()); err != nil {
		return nil, fmt.Errorf("ndjson: dead letters: %w", err)
	}
	return d, nil
}

// probe creates a file, and removes it.
func (d *DeadLetters) probe() error {
	f, err := os.CreateTemp(d.dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (d *DeadLetters) mendAll() error {
	names, err := readNames(d.dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		path := filepath.Join(d.dir, base)
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(base, suffix) {
			continue // not a file of ours; or it was moved away just now
		}
		if err := d.mend(path); err != nil {
			return err
		}
	}
	return nil
}

// mend cuts off what is torn at the end of a file, unless somebody is writing.
func (d *DeadLetters) mend(path string) (err error) {
	f, err := d.open(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was moved away just now
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.lock() == taken {
		return nil
	}
	size, tail, err := tailOf(f)
	if err != nil || !isTorn(tail) {
		return err
	}
	return cut(f, size-int64(len(tail)))
}

// Put appends a letter to the file of its key. When it returns nil, the letter and
// the file's entry in the directory are flushed to the disk.
func (d *DeadLetters) Put(ctx context.Context, l rigatoni.DeadLetter) error {
	line, err := letterLine(l, d.mode)
	if err != nil {
		return fmt.Errorf("ndjson: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := d.append(ctx, filepath.Join(d.dir, stemOf(l.Key)+suffix), line); err != nil {
		return fmt.Errorf("ndjson: writing a dead letter: %w", err)
	}
	return nil
}

// append appends a line to the file, durably, after cutting off what a crash has
// left torn. The lock keeps other processes away meanwhile.
func (d *DeadLetters) append(ctx context.Context, path string, line []byte) (err error) {
	f, err := d.open(path, os.O_CREATE)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the directory, or moved it away
		if err := mkdir(osFS{}, d.dir); err != nil {
			return err
		}
		f, err = d.open(path, os.O_CREATE)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for f.lock() == taken {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	size, tail, err := tailOf(f)
	switch {
	case err != nil:
		return err
	case isTorn(tail):
		size -= int64(len(tail))
		if err := cut(f, size); err != nil {
			return err
		}
	case len(tail) > 0: // somebody else's, or an editor has removed the line break
		line = append([]byte("\n"), line...)
	}
	n, err := f.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(size)) // it is written again
	}
	return d.syncDir(d.dir)
}

// tailOf returns the size of a file and what follows its last line break.
func tailOf(f file) (size int64, tail []byte, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	size = info.Size()
	buf := make([]byte, 64<<10)
	from := size
	for from > 0 {
		end := from
		from = max(0, end-int64(len(buf)))
		part := buf[:end-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, nil, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			from += int64(i) + 1
			break
		}
	}
	tail = make([]byte, size-from)
	_, err = f.ReadAt(tail, from)
	return size, tail, err
}

// isTorn reports whether what follows the last line break is the beginning of a letter,
// or the zeros that a power cut leaves. Whatever else it is, it is not for us to cut off.
func isTorn(tail []byte) bool {
	const letter = `{"at":`
	n := min(len(tail), len(letter))
	return n > 0 && (tail[0] == 0 || string(tail[:n]) == letter[:n] && !json.Valid(tail))
}

func cut(f file, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// A letter is a line's fields.
type letter struct {
	At          time.Time       `json:"at"`
	Key         string          `json:"key"`
	Stream      string          `json:"stream,omitempty"`
	Error       string          `json:"error"`
	Attempts    int             `json:"attempts"`
	Namespace   string          `json:"namespace,omitempty"`
	DocumentKey json.RawMessage `json:"documentKey,omitempty"`
	ClusterTime json.RawMessage `json:"clusterTime,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"`
	BSON        []byte          `json:"bson,omitempty"`
}

// letterLine writes a letter. An event may have been refused because it can't be
// written as JSON, so that can't fail here.
func letterLine(l rigatoni.DeadLetter, mode extjson.Mode) ([]byte, error) {
	text := letter{
		At: l.At.UTC(), Key: l.Key, Stream: l.Stream, Error: fmt.Sprint(l.Err), Attempts: l.Attempts,
		Namespace: l.Event.Namespace().String(),
	}
	if t := l.Position.ClusterTime; t != (bson.Timestamp{}) {
		text.ClusterTime = fmt.Appendf(nil, `{"t":%d,"i":%d}`, t.T, t.I)
	}
	event, err := extjson.Append(nil, l.Event.Raw, mode)
	if err == nil {
		text.Event = event
	} else {
		text.BSON = l.Event.Raw
	}
	if key := l.Event.DocumentKey(); key != nil {
		if doc, err := extjson.Append(nil, key, mode); err == nil {
			text.DocumentKey = doc
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return nil, err
	}
	// Of the line breaks that only some readers know, encoding/json leaves this one.
	return bytes.ReplaceAll(b.Bytes(), []byte("\u0085"), []byte(`\u0085`)), nil
}
