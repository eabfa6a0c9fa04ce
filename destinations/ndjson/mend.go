package ndjson

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine is more than the line of an event can have: 16 MB, each byte of which
// becomes \u0000.
const maxLine = 256 << 20

// mendFile cuts the file at path at the first broken line from the offset from
// on, flushes what stays, and tells its size and how much was cut.
//
// A file that is torn from its beginning stays, empty: its number is used.
func mendFile(fsys fileSystem, path string, from int64) (size, cut int64, err error) {
	f, err := fsys.open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, 0, err
	}
	whole, err := wholeLines(f)
	if err != nil {
		return 0, 0, fmt.Errorf("reading %s: %w", path, err)
	}
	size = from + whole
	if size < end {
		if err := f.Truncate(size); err != nil {
			return 0, 0, fmt.Errorf("cutting %s: %w", path, err)
		}
	}
	if err := f.Sync(); err != nil {
		// Whether these lines are on disk can't be found out any more, and a
		// second flush might say so without it being true. None of them is
		// covered by a checkpoint: they come again.
		return 0, 0, errors.Join(fmt.Errorf("flushing %s: %w", path, err), f.Truncate(from))
	}
	return size, end - size, nil
}

// wholeLines counts the bytes of r before its first broken line: one that doesn't
// end, or is no JSON object. A power cut can leave zeros where blocks were never
// written, and whole lines after them: those are behind the first broken one.
func wholeLines(r io.Reader) (n int64, err error) {
	br := bufio.NewReaderSize(r, 256<<10)
	var long []byte
	for {
		part, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && bytes.IndexByte(part, 0) < 0 && len(long) < maxLine:
			long = append(long, part...)
			continue
		case err == io.EOF, errors.Is(err, bufio.ErrBufferFull):
			return n, nil
		case err != nil:
			return n, err
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line = long
		}
		if line[0] != '{' || !json.Valid(line) {
			return n, nil
		}
		n += int64(len(line))
		long = long[:0]
	}
}
