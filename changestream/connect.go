package changestream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
)

// Connect returns a source with a client of its own, for a connection string
// (mongodb:// or mongodb+srv://). Nothing is sent yet; a connection string that
// can't be understood is an error, in which nothing of it is repeated. The caller
// calls Close.
func Connect(uri string, o Options) (*Source, error) {
	// The options first: a client starts goroutines.
	o, err := o.validated()
	if err != nil {
		return nil, err
	}
	co := options.Client().ApplyURI(uri)
	if err := co.Validate(); err != nil {
		return nil, badURI(uri, err)
	}
	if t := co.Timeout; t != nil && *t > 0 && *t <= o.MaxAwait+time.Second {
		return nil, fmt.Errorf("changestream: timeoutMS in the connection string (%v) must be more than a second above Options.MaxAwait (%v), or every wait for events is cut off", *t, o.MaxAwait)
	}
	if co.AppName == nil {
		co.SetAppName("rigatoni")
	}
	// The only read concern that a change stream takes.
	co.SetReadConcern(readconcern.Majority())
	client, err := mongo.Connect(co)
	if err != nil {
		return nil, badURI(uri, err)
	}
	s, err := New(client, o)
	if err != nil {
		return nil, err
	}
	s.owned = true
	return s, nil
}

// badURI says what is wrong with a connection string. Where it holds a password,
// the driver's own words are left out: it quotes the part that it stumbled over,
// and a password with an unescaped "@" or ":" is what people get wrong.
func badURI(uri string, err error) error {
	if strings.Contains(uri, "@") {
		return errors.New("changestream: the connection string is not valid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded")
	}
	return fmt.Errorf("changestream: the connection string is not valid: %w", err)
}
