package changestream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Options select what to read, and how. The zero value reads the whole
// deployment.
type Options struct {
	// Database is the database to read; empty: all of them (but admin, config
	// and local). It may be a pattern, in which "*" matches any run of
	// characters: "shop_*". The user then needs the rights for a stream of the
	// whole deployment.
	Database string `help:"the database to watch, a name or a pattern (shop_*); by default the whole deployment" arg:"NAME" pattern:"[^/\\\\. \"$]{1,63}" want:"the name of a database: at most 63 bytes, and none of / \\ . \" $ or space" group:"What to watch"`
	// Collections are the collections of Database to read, by names and patterns:
	// "orders", "log_*". Empty: all of them, future ones included. They need not
	// exist yet. A view or a time-series collection can't be read.
	Collections []string `help:"the collections of the database to watch, names or patterns (log_*); by default all" arg:"NAMES" pattern:"[^$]+" want:"the name of a collection, which has no $"`
	// OneEach opens a stream for each of Collections, named after it, each with
	// a checkpoint of its own. By default one stream, named "", has the events
	// of all, in the order in which they happened, and costs the server one scan
	// of its oplog instead of many. OneEach excludes patterns.
	OneEach bool `help:"a stream and a checkpoint for each collection, instead of one for all"`
	// Operations are the operation types to read: "insert", "update", "replace",
	// "delete" and so on; empty: all. Events of the types invalidate and
	// dropDatabase are read in any case; a snapshot also sees drop and rename, without
	// delivering them. Those of create, createIndexes and the
	// like need ExpandedEvents.
	Operations []string `help:"the operations to watch, such as insert,update; by default all" arg:"NAMES" oneof:"insert|update|replace|delete|drop|rename|dropDatabase|invalidate|create|createIndexes|dropIndexes|modify|shardCollection|refineCollectionShardKey|reshardCollection"`
	// Pipeline is applied to each event by the server, after the options above:
	// what it filters out or projects away doesn't cross the network.
	Pipeline Pipeline `help:"stages for the server to apply to events, as a JSON array: [{\"$match\": …}]" arg:"JSON"`

	// FullDocument is what an update event has as its fullDocument: "default"
	// (nothing), "updateLookup" (the document as it is when the event is read,
	// which may be later, or gone), "whenAvailable" or "required" (the stored
	// post-image).
	FullDocument string `help:"the document as it is after an update" arg:"MODE" oneof:"default|updateLookup|whenAvailable|required"`
	// FullDocumentBeforeChange is what update, replace and delete events have of
	// the document as it was: "off" (nothing), "whenAvailable" or "required" (the
	// stored pre-image).
	FullDocumentBeforeChange string `help:"the document as it was before a change" arg:"MODE" oneof:"off|whenAvailable|required"`
	// ExpandedEvents adds the events of create, createIndexes, modify and so on.
	ExpandedEvents bool `help:"events of create, createIndexes, modify and the like as well"`

	// BatchSize is the largest number of events in a reply of the server, which
	// also limits replies to 16 MB; default 4,000. Each reply costs the server and
	// the client about a millisecond beside its events: at 1,000 small events a
	// reply a pipeline that catches up reaches nine tenths of the rate. Each is
	// memory, too: a lower number bounds it where events are large.
	BatchSize int `help:"events in a reply of the server" default:"4000" max:"1048576"`
	// MaxAwait is how long the server waits for events before it replies that
	// there are none; default 1 s. It must be less than the client's timeoutMS,
	// if there is one.
	MaxAwait time.Duration `help:"how long the server waits for events before it replies" default:"1s" min:"1ms"`

	// ReopenMin and ReopenMax bound the pauses between attempts to reopen a
	// stream that was interrupted. The first attempt is made at once; then the
	// pauses double from one to the other, with jitter (defaults 100 ms and 10 s).
	ReopenMin time.Duration `help:"the first pause between attempts to reopen a stream" default:"100ms"`
	ReopenMax time.Duration `help:"the longest pause between attempts to reopen a stream" default:"10s"`

	// SnapshotParallelism is how many chunks a snapshot reads at the same time, of
	// several collections or of ranges of one; default 4. Each is a connection and,
	// until it is delivered, SnapshotChunkBytes of memory.
	SnapshotParallelism int `help:"chunks that a snapshot reads at the same time" default:"4" min:"1" max:"64" group:"Snapshot"`
	// SnapshotChunkBytes is about how much a snapshot reads at once; default 4 MiB.
	// Documents that are larger are chunks of their own. No reply of the server is
	// larger than 16 MB, whatever the documents' sizes.
	SnapshotChunkBytes int `help:"about how many bytes a snapshot reads at once" default:"4MiB" kind:"size" min:"1024" max:"16777216" group:"Snapshot"`

	// Logger receives log output when a stream is interrupted and when it is read
	// again; default slog.Default().
	Logger *slog.Logger
}

// expandedOperations are those that need Options.ExpandedEvents.
var expandedOperations = []string{"create", "createIndexes", "dropIndexes", "modify", "shardCollection", "refineCollectionShardKey", "reshardCollection"}

// completed returns a copy with the defaults filled in, checked.
func (o *Options) completed() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.Collections, c.Operations = slices.Clone(c.Collections), slices.Clone(c.Operations)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	maxGiven := c.ReopenMax != 0
	if err := option.Complete("changestream: Options.", &c); err != nil {
		return c, err
	}
	if !maxGiven {
		c.ReopenMax = max(c.ReopenMax, c.ReopenMin)
	}
	return c, errors.Join(c.checkNamespaces(), c.checkOperations(), c.checkPauses())
}

func (o *Options) checkNamespaces() error {
	switch {
	case len(o.Collections) > 0 && o.Database == "":
		return errors.New("changestream: Options.Collections needs Options.Database, the database that they are in")
	case len(o.Collections) == 0 && o.OneEach:
		return errors.New("changestream: Options.OneEach needs Options.Collections, the collections to open a stream for")
	}
	if !o.OneEach {
		return nil
	}
	for _, name := range append([]string{o.Database}, o.Collections...) {
		if glob.IsPattern(name) {
			return fmt.Errorf("changestream: Options.OneEach opens a stream for each name in Options.Collections, and %q is a pattern; list the collections, or use one stream for all", name)
		}
	}
	return nil
}

func (o *Options) checkOperations() error {
	for _, op := range o.Operations {
		if !o.ExpandedEvents && slices.Contains(expandedOperations, op) {
			return fmt.Errorf("changestream: Options.Operations has %q, which needs Options.ExpandedEvents", op)
		}
	}
	return nil
}

func (o *Options) checkPauses() error {
	if o.ReopenMax < o.ReopenMin {
		return fmt.Errorf("changestream: Options.ReopenMax (%v) is less than ReopenMin (%v)", o.ReopenMax, o.ReopenMin)
	}
	return nil
}
