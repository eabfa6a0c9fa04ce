package redisserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A ReplyError is an error that the server replied.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// callTimeout is the time in which a server must answer one command.
const callTimeout = 2 * time.Second

// Do sends one command on a new connection, with all rights, and returns the
// answer: a string, an int64, nil, or a []any of these. An error of the server
// is a [ReplyError].
func (s *Server) Do(ctx context.Context, args ...string) (any, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if auth := s.auth(); auth != nil {
		if _, err := exchange(c, r, auth...); err != nil {
			return nil, err
		}
	}
	return exchange(c, r, args...)
}

func (s *Server) auth() []string {
	switch {
	case s.admin != nil:
		return []string{"AUTH", s.admin.Name, s.admin.Password}
	case s.opts.Password != "":
		return []string{"AUTH", s.opts.Password}
	}
	return nil
}

// Info returns one section of INFO, as names and values.
func (s *Server) Info(ctx context.Context, section string) (map[string]string, error) {
	text, err := s.text(ctx, "INFO", section)
	return pairs(text), err
}

// text is Do for text answers.
func (s *Server) text(ctx context.Context, args ...string) (string, error) {
	v, err := s.Do(ctx, args...)
	if err != nil {
		return "", err
	}
	text, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("redisserver: %s answered a %T", args[0], v)
	}
	return text, nil
}

// pairs reads lines of name:value.
func pairs(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: callTimeout}
	c, err := d.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if s.client != nil {
		return tls.Client(c, s.client), nil
	}
	return c, nil
}

func exchange(w io.Writer, r *bufio.Reader, args ...string) (any, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return nil, err
	}
	return readReply(r)
}

// readReply reads an answer of RESP2.
func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, ReplyError(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("redisserver: unreadable answer %q", line)
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return string(b[:n]), err
	case kind == '*':
		return readList(r, n)
	}
	return nil, fmt.Errorf("redisserver: unreadable answer %q", line)
}

func readList(r *bufio.Reader, n int64) (any, error) {
	list := make([]any, n)
	for i := range list {
		v, err := readReply(r)
		var refusal ReplyError
		if err != nil && !errors.As(err, &refusal) {
			return nil, err
		}
		if list[i] = v; err != nil {
			list[i] = refusal
		}
	}
	return list, nil
}
