package ndjson

import (
	"fmt"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

const (
	// chunkBytes is how much is written at once; a longer line goes alone.
	chunkBytes = 256 << 10
	// flushBytes is after how much the kernel is asked to write to the disk.
	flushBytes = 1 << 20
	// keepBytes is the largest buffer that is kept for the next batch.
	keepBytes = 1 << 20
)

// lines writes events as lines, many at once.
type lines struct {
	mode    extjson.Mode
	buf     []byte
	written int // events

	// limit is how much may be written at once, if the lines of the first held
	// bytes are.
	limit func(held int) int
	// write writes lines. If it fails, it tells how many whole lines it has
	// written all the same.
	write func(p []byte) (whole int, err error)
}

// deliver writes a line for each event. Its error says how many it has written.
func (l *lines) deliver(events []rigatoni.Event) error {
	for i, ev := range events {
		start := len(l.buf)
		buf, err := extjson.Append(l.buf, ev.Raw, l.mode)
		if err != nil {
			if werr := l.flush(start, i); werr != nil {
				return werr
			}
			return partial(i, rigatoni.Permanent(fmt.Errorf("ndjson: an event can't be written: %w", err)))
		}
		l.buf = append(buf, '\n')
		if start > 0 && len(l.buf) > l.limit(start) {
			if err := l.flush(start, i); err != nil {
				return err
			}
		}
	}
	return l.flush(len(l.buf), len(events))
}

// flush writes the first n bytes of the buffer, the lines of the events up to
// upTo, and keeps the rest.
func (l *lines) flush(n, upTo int) error {
	if n == 0 {
		return nil
	}
	whole, err := l.write(l.buf[:n])
	if err != nil {
		// A writer may fail after it has taken everything; one event is then
		// written twice, since an error must have an event to stand at.
		return partial(min(l.written+whole, upTo-1), err)
	}
	l.written = upTo
	l.buf = l.buf[:copy(l.buf, l.buf[n:])]
	return nil
}

// rest is the buffer for the next batch, nil if one large event has made it
// larger than what is worth keeping.
func (l *lines) rest() []byte {
	if cap(l.buf) > keepBytes {
		return nil
	}
	return l.buf[:0]
}

func partial(n int, err error) error {
	if n == 0 {
		return err
	}
	return rigatoni.Partial(n, err)
}
