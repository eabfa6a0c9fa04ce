package ndjson

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxLine is more than the line of an event can have: some 48 MB, for one that was read
// in three parts, each byte of which becomes \u0000.
const maxLine = 512 << 20

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
