package changestream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Options say what to watch, and how. The zero value watches the whole
// deployment.
type Options struct {
	// Database is the database to watch; empty: all of them (but admin, config
	// and local).
	Database string `help:"the database to watch; by default the whole deployment" arg:"NAME" pattern:"[^/\\\\. \"$]{1,63}" want:"the name of a database: at most 63 bytes, and none of / \\ . \" $ or space" group:"What to watch"`
	// Collections are the collections of Database to watch; empty: all of them,
	// those to come too. They need not exist yet. A view or a time-series
	// collection can't be watched.
	Collections []string `help:"the collections of the database to watch; by default all" arg:"NAMES" pattern:"[^$]+" want:"the name of a collection, which has no $"`
	// OneEach opens a stream for each of Collections, named after it, each with
	// a checkpoint of its own. By default one stream, named "", has the events
	// of all, in the order in which they happened, and costs the server one scan
	// of its oplog instead of many.
	OneEach bool `help:"a stream and a checkpoint for each collection, instead of one for all"`

	// FullDocument is what an update event has as its fullDocument: "default"
	// (nothing, as if empty), "updateLookup" (the document as it is when the
	// event is read, which may be later, or gone), "whenAvailable" or "required"
	// (the stored post-image).
	FullDocument string `help:"the document as it is after an update" arg:"MODE" oneof:"default|updateLookup|whenAvailable|required"`
	// FullDocumentBeforeChange is what update, replace and delete events have of
	// the document as it was: "off" (nothing, as if empty), "whenAvailable" or
	// "required" (the stored pre-image).
	FullDocumentBeforeChange string `help:"the document as it was before a change" arg:"MODE" oneof:"off|whenAvailable|required"`
	// ExpandedEvents asks for the events of create, createIndexes, modify and
	// so on as well.
	ExpandedEvents bool `help:"events of create, createIndexes, modify and the like as well"`

	// BatchSize is the most events that the server sends at once, which it also
	// limits to 16 MB; default 1,000.
	BatchSize int
	// MaxAwait is how long the server waits for events before it answers that
	// there are none; default 1 s. It must be less than the client's timeoutMS,
	// if there is one.
	MaxAwait time.Duration

	// ReopenMin and ReopenMax bound the pauses between attempts to reopen a
	// stream that broke off. The first attempt is made at once; then the pauses
	// double from one to the other, with jitter (defaults 100 ms and 10 s).
	ReopenMin time.Duration
	ReopenMax time.Duration

	// Logger is told when a stream breaks off and when it is open again;
	// default slog.Default().
	Logger *slog.Logger
}

const (
	defaultBatchSize = 1000
	defaultMaxAwait  = time.Second
	defaultReopenMin = 100 * time.Millisecond
	defaultReopenMax = 10 * time.Second

	maxBatchSize = 1 << 20
)

var (
	fullDocuments = []string{"", "default", "updateLookup", "whenAvailable", "required"}
	beforeChanges = []string{"", "off", "whenAvailable", "required"}
)

// validated returns the options with their defaults.
func (o Options) validated() (Options, error) {
	o.Collections = slices.Clone(o.Collections)
	o.BatchSize = orDefault(o.BatchSize, defaultBatchSize)
	o.MaxAwait = orDefault(o.MaxAwait, defaultMaxAwait)
	o.ReopenMin = orDefault(o.ReopenMin, defaultReopenMin)
	o.ReopenMax = orDefault(o.ReopenMax, max(defaultReopenMax, o.ReopenMin))
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(o.checkNamespaces(), o.checkImages(), o.checkNumbers())
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (o Options) checkNamespaces() error {
	if len(o.Collections) > 0 && o.Database == "" {
		return errors.New("changestream: Options.Collections needs Options.Database, the database that they are in")
	}
	if len(o.Collections) == 0 && o.OneEach {
		return errors.New("changestream: Options.OneEach needs Options.Collections, the collections to open a stream for")
	}
	// What the server refuses is its own business; these would break a command.
	if strings.ContainsAny(o.Database, "\x00./\\ \"$") {
		return fmt.Errorf("changestream: Options.Database %q is no name of a database", o.Database)
	}
	seen := map[string]bool{}
	for _, c := range o.Collections {
		if c == "" || strings.ContainsRune(c, 0) {
			return fmt.Errorf("changestream: Options.Collections has %q, which is no name of a collection", c)
		}
		if seen[c] {
			return fmt.Errorf("changestream: Options.Collections has %q twice", c)
		}
		seen[c] = true
	}
	return nil
}

func (o Options) checkImages() error {
	return errors.Join(
		oneOf("FullDocument", o.FullDocument, fullDocuments),
		oneOf("FullDocumentBeforeChange", o.FullDocumentBeforeChange, beforeChanges),
	)
}

func oneOf(field, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("changestream: Options.%s is %q; it may be %s", field, value, strings.Join(allowed[1:], ", "))
}

func (o Options) checkNumbers() error {
	switch {
	case o.BatchSize < 1 || o.BatchSize > maxBatchSize:
		return fmt.Errorf("changestream: Options.BatchSize is %d; it may be 1 to %d", o.BatchSize, maxBatchSize)
	case o.MaxAwait < time.Millisecond:
		return fmt.Errorf("changestream: Options.MaxAwait is %v; it must be 1 ms or more", o.MaxAwait)
	case o.ReopenMin < 0:
		return fmt.Errorf("changestream: Options.ReopenMin is %v; it may not be negative", o.ReopenMin)
	case o.ReopenMax < o.ReopenMin:
		return fmt.Errorf("changestream: Options.ReopenMax (%v) is less than ReopenMin (%v)", o.ReopenMax, o.ReopenMin)
	}
	return nil
}
