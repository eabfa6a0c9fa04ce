package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// maxFile is the size of the largest pipeline file. One is a page long; what is
// larger is something else, given by mistake.
const maxFile = 1 << 20

// open returns the text of the pipeline file, and what messages call it. - is
// standard input.
func open(path string, stdin io.Reader) (text []byte, shown string, err error) {
	if shown = Redact(path); path == "-" {
		shown = "standard input"
		text, err = readUpTo(stdin, maxFile)
	} else if path, err = option.Path(path); err != nil {
		err = fmt.Errorf("the name of the file %w", err)
	} else {
		text, err = readFile(path, maxFile)
	}
	if err == nil {
		err = checkText(text)
	}
	return text, shown, err
}

// readFile returns the contents of a file. Its error doesn't repeat the path.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = readUpTo(f, limit); err == nil {
			return text, nil
		}
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return nil, fmt.Errorf("the file can't be read: %w", err)
}

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	if r == nil {
		r = strings.NewReader("")
	}
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d KiB, which no file of this kind is", limit>>10)
	}
	return text, err
}

// checkText refuses text in another encoding than UTF-8, and UTF-16 with the mark
// at its beginning that says so.
func checkText(text []byte) error {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil
	}
	line := 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			return &encodingError{line, text[0]}
		case r == '\n':
			line++
		}
		text = text[n:]
	}
	return nil
}

// encodingError is text in another encoding.
type encodingError struct {
	line int
	b    byte
}

func (e *encodingError) Error() string {
	return fmt.Sprintf("the byte 0x%02X is not UTF-8 text; save the file as UTF-8", e.b)
}

// lineOf is the line that an error is in; 0 for none.
func lineOf(err error) int {
	if e := (*encodingError)(nil); errors.As(err, &e) {
		return e.line
	}
	return 0
}
