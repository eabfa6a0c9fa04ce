package pgstore

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// OneLine gives an error of pgx a message of one line, for logs: the attempts to connect,
// which pgx lists one per line with user and database, become the hosts and the reasons.
// errors.Is and errors.As find what they found before. It is nil if err is.
//
// The errors of a [Store] are in one line already. It is for programs that share a pool
// with one.
func OneLine(err error) error {
	if err == nil {
		return nil
	}
	return oneLine{err}
}

type oneLine struct{ error }

func (o oneLine) Error() string {
	text := o.error.Error()
	if c := (*pgconn.ConnectError)(nil); errors.As(o.error, &c) {
		text = strings.Replace(text, c.Error(), attempts(c), 1)
	}
	return joined(text)
}

func (o oneLine) Unwrap() error { return o.error }

// joined is a text in one line.
func joined(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		if part := strings.TrimSpace(line); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// attempts says what a connection failed for, host by host. Where pgx first asks for TLS,
// it tries a host twice, and a server without TLS is no reason.
func attempts(c *pgconn.ConnectError) string {
	all := []error{c.Unwrap()}
	if several, ok := all[0].(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	var reasons []string
	for _, one := range all {
		reason := attempt(one)
		if !slices.Contains(reasons, reason) && (len(all) == 1 || !strings.HasSuffix(reason, "server refused TLS connection")) {
			reasons = append(reasons, reason)
		}
	}
	return "failed to connect to " + strings.Join(reasons, "; ")
}

// attempt is the host of an attempt and why it failed: "db:5432: connection refused". pgx
// writes "ADDRESS (HOST): " in front of what it wraps.
func attempt(err error) string {
	inner := errors.Unwrap(err)
	if inner == nil {
		return err.Error()
	}
	where, isPrefix := strings.CutSuffix(err.Error(), inner.Error())
	if !isPrefix || where == "" {
		return err.Error()
	}
	address, host, _ := strings.Cut(strings.TrimSuffix(where, ": "), " (")
	if host = strings.TrimSuffix(host, ")"); host != "" && !strings.HasPrefix(address, host) {
		address = host + " (" + address + ")"
	}
	return address + ": " + reason(inner)
}

// reason is what an attempt failed for, without the address.
func reason(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) && e.Err != nil {
		return strings.TrimPrefix(e.Err.Error(), "connect: ")
	}
	return err.Error()
}
