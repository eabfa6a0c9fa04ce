package faultproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// errProtocol is returned for bytes that are neither a request nor an answer.
var errProtocol = errors.New("faultproxy: no RESP")

// readRequest reads one request, raw and split into its parts. A line that is
// no array is an inline command.
func readRequest(r *bufio.Reader) (raw []byte, args [][]byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	if line[0] != '*' {
		for _, word := range strings.Fields(string(line)) {
			args = append(args, []byte(word))
		}
		return line, args, nil
	}
	n, err := count(line)
	if err != nil {
		return nil, nil, err
	}
	raw = line
	for range n {
		head, err := r.ReadBytes('\n')
		if err != nil {
			return nil, nil, err
		}
		size, err := count(head)
		if err != nil || head[0] != '$' || size < 0 {
			return nil, nil, errors.Join(errProtocol, err)
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, nil, err
		}
		raw = append(append(raw, head...), body...)
		args = append(args, body[:size])
	}
	return raw, args, nil
}

// readReply reads one answer of RESP2 or RESP3, and reports whether it is an
// unrequested message.
func readReply(r *bufio.Reader) (raw []byte, unasked bool, err error) {
	raw, err = appendReply(nil, r)
	return raw, err == nil && raw[0] == '>', err
}

func appendReply(raw []byte, r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	switch line[0] {
	case '+', '-', ':', '_', '#', ',', '(':
		return raw, nil
	}
	n, err := count(line)
	if err != nil || n < 0 {
		return raw, err
	}
	switch line[0] {
	case '$', '!', '=':
		body := make([]byte, n+2)
		_, err := io.ReadFull(r, body)
		return append(raw, body...), err
	case '*', '~', '>':
	case '%':
		n *= 2
	case '|': // attributes precede what they belong to
		n = 2*n + 1
	default:
		return nil, fmt.Errorf("%w: an answer begins with %q", errProtocol, line[0])
	}
	for range n {
		if raw, err = appendReply(raw, r); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func count(line []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	if err != nil {
		return 0, fmt.Errorf("%w: a length that is no number", errProtocol)
	}
	return n, nil
}
