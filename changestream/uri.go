package changestream

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
)

// Open returns a source with a client of its own, for a connection string
// (mongodb:// or mongodb+srv://); nil options are the defaults. It doesn't
// connect yet. The error for a connection string that is not valid repeats
// nothing of it. The caller calls Close.
func Open(uri string, o *Options) (*Source, error) {
	// The options first: a client has goroutines.
	s, err := newSource(o)
	if err != nil {
		return nil, err
	}
	co, err := s.clientOptions(uri)
	if err != nil {
		return nil, err
	}
	if s.client, err = mongoclient.Connect(co); err != nil {
		return nil, invalidURI(uri, err)
	}
	s.owned = true
	return s, nil
}

// clientOptions reads a connection string.
func (s *Source) clientOptions(uri string) (*options.ClientOptions, error) {
	co := options.Client().ApplyURI(uri)
	if err := co.Validate(); err != nil {
		return nil, invalidURI(uri, err)
	}
	if t := co.Timeout; t != nil && *t > 0 && *t <= s.opts.MaxAwait+time.Second {
		return nil, fmt.Errorf("changestream: timeoutMS in the connection string (%v) must be more than a second above Options.MaxAwait (%v), or every wait for events is cut off", *t, s.opts.MaxAwait)
	}
	if co.AppName == nil {
		co.SetAppName("rigatoni")
	}
	// The only read concern that a change stream takes.
	co.SetReadConcern(readconcern.Majority())
	co.SetMonitor(observer)
	return co, s.sizePool(co)
}

// sizePool gives each stream a connection of its own: with fewer, streams that wait for
// events keep the others from reading.
func (s *Source) sizePool(co *options.ClientOptions) error {
	needed := uint64(len(s.names) + poolReserve)
	// A snapshot's reads can wait for one another.
	useful := uint64(len(s.names)*s.opts.SnapshotParallelism + poolReserve)
	switch {
	case co.MaxPoolSize == nil && useful > defaultPoolSize:
		co.SetMaxPoolSize(useful)
	case co.MaxPoolSize != nil && *co.MaxPoolSize > 0 && len(s.names) > 1 && *co.MaxPoolSize < needed:
		return fmt.Errorf("changestream: maxPoolSize in the connection string is %d, too little for %d streams, each of which waits on a connection of its own; it must be at least %d, or be left out", *co.MaxPoolSize, len(s.names), needed)
	}
	return nil
}

// invalidURI says what is wrong with a connection string: in the driver's words, which
// name the option, the file or the host, unless the user name and the password are not
// written as they must be. The driver takes a part of the password for the host then,
// and quotes it.
//
// Where the servers of a mongodb+srv:// name could not be looked up, the string is
// not at fault, and the error is an [ErrUnreachable] and a [net.DNSError].
func invalidURI(uri string, err error) error {
	if strings.TrimSpace(uri) != uri {
		return errors.New("changestream: the connection string is not valid: it begins or ends with a blank")
	}
	if !credentialsAreEscaped(uri) {
		return errors.New("changestream: the connection string is not valid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded")
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return &streamError{
			text:   fmt.Sprintf("the servers of mongodb+srv:// can't be looked up; check the host name, and the network: %v", dns),
			causes: []error{ErrUnreachable, dns},
		}
	}
	text := err.Error()
	for _, prefix := range []string{"error parsing uri: ", "error validating uri: ", `invalid host "": `} {
		text = strings.TrimPrefix(text, prefix)
	}
	text, _, _ = strings.Cut(text, ": strconv.")
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		text = fmt.Sprintf("the file that it names for TLS can't be read: %v", file)
	}
	return fmt.Errorf("changestream: the connection string is not valid: %s", text)
}

// credentialsAreEscaped reports whether what is before the hosts of a connection string
// has no character but a single ":" that has a meaning there. An "@" further on, in
// what would be the database, may be the end of a password with "/", "?" or "#".
func credentialsAreEscaped(uri string) bool {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return !strings.Contains(uri, "@")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, after := rest[:end], rest[end:]
	database, _, _ := strings.Cut(after, "?")
	user, _, has := strings.Cut(authority, "@")
	if !has {
		return !strings.Contains(database, "@") && !(strings.Contains(after, "@") && !strings.Contains(after, "="))
	}
	if strings.Count(authority, "@") > 1 || strings.Contains(database, "@") || strings.Count(user, ":") > 1 || strings.ContainsAny(user, "[]") {
		return false
	}
	_, err := url.PathUnescape(user)
	return err == nil
}
