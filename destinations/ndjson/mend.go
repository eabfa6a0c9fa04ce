package ndjson

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// maxLine is more than the line of an event can have: 16 MB, each byte of which
// becomes \u0000.
const maxLine = 256 << 20

// mendFile cuts the named file at the first broken line from the offset from
// on, flushes what stays, and tells its size and how much was cut.
//
// A file that is torn from its beginning stays, empty: its number is used.
func (d *Files) mendFile(name string, from int64) (size, cut int64, err error) {
	f, err := d.fs.open(filepath.Join(d.dir, name))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if size, err = d.sound(name, f, from); err != nil {
		return 0, 0, fmt.Errorf("reading %s: %w", name, err)
	}
	if size < end {
		if err := f.Truncate(size); err != nil {
			return 0, 0, fmt.Errorf("cutting %s: %w", name, err)
		}
	}
	if err := f.Sync(); err != nil {
		d.doubt(name, f, from)
		return 0, 0, fmt.Errorf("flushing %s: %w", name, err)
	}
	d.doubts.Delete(name)
	return size, end - size, nil
}

// sound is the offset up to which the file is to be kept.
func (d *Files) sound(name string, f file, from int64) (int64, error) {
	if sure, doubtful := d.doubts.Load(name); doubtful {
		end, err := f.Seek(0, io.SeekEnd)
		return min(end, max(from, sure.(int64))), err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := wholeLines(f)
	return from + n, err
}

// doubt drops all behind the first sure bytes of a file whose flush has failed.
// The kernel may have thrown those pages away and still show them, and report
// success for the next flush; a power cut would tear them much later, when
// nobody looks there any more. They are covered by no checkpoint, so they come
// again. Where they can't be dropped now, the next Attach does it.
func (d *Files) doubt(name string, f file, sure int64) {
	info, err := f.Stat()
	if err == nil && info.Size() > sure { // a shorter one would be filled with zeros
		err = f.Truncate(sure)
	}
	if err != nil {
		d.doubts.Store(name, sure)
	}
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
