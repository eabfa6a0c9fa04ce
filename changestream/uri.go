package changestream

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
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
	if s.client, err = mongo.Connect(co); err != nil {
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
	return co, nil
}

// invalidURI says what is wrong with a connection string. Where it holds a
// password, the driver's message is left out: it quotes the part that it failed
// on, and a password with an unescaped "@" or ":" is the usual mistake.
//
// Where the servers of a mongodb+srv:// name could not be looked up, the string is
// not at fault, and the error is a [net.DNSError].
func invalidURI(uri string, err error) error {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && namesHost(uri, dns.Name) {
		return fmt.Errorf("changestream: the servers of mongodb+srv:// can't be looked up; check the host name, and the network: %w", dns)
	}
	if strings.Contains(uri, "@") {
		return errors.New("changestream: the connection string is not valid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded")
	}
	return fmt.Errorf("changestream: the connection string is not valid: %w", err)
}

// namesHost reports whether the name that was looked up is the host of the
// connection string, and not a part of a password that was taken for it.
func namesHost(uri, name string) bool {
	host := strings.TrimPrefix(name, "_mongodb._tcp.")
	after := uri[strings.LastIndexByte(uri, '@')+1:]
	return strings.HasPrefix(strings.TrimPrefix(after, "mongodb+srv://"), host)
}
