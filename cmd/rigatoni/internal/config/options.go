package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An Option is one thing that can be set, by the flag of its name or by the
// field of its name.
type Option struct {
	Name  string
	Group string // what it is about, for the help
	Arg   string // what stands for its value in the help; "" for a switch
	Usage string // what it does, with its default
	// Once: it is a consent or a place for one start, so only the flag exists. In
	// a file it would go on consenting.
	Once bool
	// Required, if it is not empty, says what to give.
	Required string

	list   bool // several values
	secret bool // a URL, which may hold a password
	set    func(s *Settings, items []string) error
}

// Switch tells whether the option is on or off and needs no value as a flag.
func (o *Option) Switch() bool { return o.Arg == "" }

// split makes the values of the text that a flag, or one scalar, has.
func (o *Option) split(text string) []string {
	if !o.list {
		return []string{text}
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// quote shows a value in a message.
func (o *Option) quote(text string) string {
	if o.secret {
		text = Redact(text)
	}
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}

// The groups of options, in the order of the help.
const (
	GroupSource = "What to read"
	GroupPlace  = "Where the place is kept"
	GroupTo     = "Where events go"
	GroupPace   = "Batches, saves and retries"
	GroupLease  = "The lease"
	GroupLog    = "Messages"
)

// Options is the table of all options.
var Options = []*Option{
	{Name: "source", Group: GroupSource, Arg: "url", secret: true,
		Usage:    "the MongoDB replica set or sharded cluster to read from, mongodb://… or mongodb+srv://…",
		Required: "the server to read from, as --source 'mongodb://localhost:27017'",
		set:      text(func(s *Settings) *string { return &s.Source }, checkSource)},
	{Name: "database", Group: GroupSource, Arg: "name",
		Usage: "the database to read; default: the whole deployment",
		set:   text(func(s *Settings) *string { return &s.Database }, checkDatabase)},
	{Name: "collections", Group: GroupSource, Arg: "names", list: true,
		Usage: "the collections of the database to read, with commas between them (in the file also as a list); default: all",
		set:   setCollections},
	{Name: "one-each", Group: GroupSource,
		Usage: "give each collection a stream and a checkpoint of its own; default: one stream for all, which costs the server one scan",
		set:   onOff(func(s *Settings) *bool { return &s.OneEach })},
	{Name: "full-document", Group: GroupSource, Arg: "mode",
		Usage: "the document as it is after an update: default (not sent), updateLookup, whenAvailable or required",
		set:   oneOf(func(s *Settings) *string { return &s.FullDocument }, "default", "updateLookup", "whenAvailable", "required")},
	{Name: "full-document-before-change", Group: GroupSource, Arg: "mode",
		Usage: "the document as it was before a change: off (default), whenAvailable or required",
		set:   oneOf(func(s *Settings) *string { return &s.FullDocumentBeforeChange }, "off", "whenAvailable", "required")},
	{Name: "expanded-events", Group: GroupSource,
		Usage: "read the events of create, createIndexes, modify and the like as well; default: without",
		set:   onOff(func(s *Settings) *bool { return &s.ExpandedEvents })},

	{Name: "name", Group: GroupPlace, Arg: "name",
		Usage: "the name of the pipeline, under which its checkpoint is kept; default: the database's",
		set:   text(func(s *Settings) *string { return &s.Name }, checkName)},
	{Name: "store", Group: GroupPlace, Arg: "url", secret: true,
		Usage:    "the store of the checkpoint: file:PATH, redis://…, redis+sentinel://…, redis+cluster://…, unix:// (a socket of Redis), or memory: (forgotten at the end)",
		Required: "where the checkpoint is kept, as --store file:./state",
		set:      text(func(s *Settings) *string { return &s.Store }, checkStore)},
	{Name: "start", Group: GroupPlace, Arg: "time", Once: true,
		Usage: "where to begin if there is no checkpoint yet: now (default), a time (2026-11-23T00:46:00Z) or a cluster time " +
			"(1794000000.2); given, it also accepts output that is there already",
		set: setStart},
	{Name: "new-stream", Group: GroupPlace, Once: true,
		Usage: "begin although the store has checkpoints of this pipeline that none of its streams claims, or there is output already",
		set:   onOff(func(s *Settings) *bool { return &s.NewStream })},
	{Name: "accept-changed-stream", Group: GroupPlace, Arg: "fingerprint", Once: true,
		Usage: "go on although the checkpoint belongs to another stream than the one given here; the refusal names the fingerprint",
		set:   text(func(s *Settings) *string { return &s.AcceptChangedStream }, nil)},

	{Name: "to", Group: GroupTo, Arg: "url", secret: true,
		Usage:    "where events go, one JSON document a line: ndjson:DIR for files in a folder, ndjson:- for standard output",
		Required: "where events go, as --to ndjson:./out",
		set:      text(func(s *Settings) *string { return &s.To }, checkDestination)},
	{Name: "canonical", Group: GroupTo,
		Usage: "write canonical Extended JSON, which keeps every type; default: relaxed",
		set:   onOff(func(s *Settings) *bool { return &s.Canonical })},
	{Name: "rotate-size", Group: GroupTo, Arg: "size",
		Usage: "begin a new file at this size (default 128MiB); 0: at no size",
		set:   size(func(s *Settings, n int64) { s.RotateSize = n }, true)},
	{Name: "rotate-age", Group: GroupTo, Arg: "duration",
		Usage: "begin a new file at this age (default 1h); 0: at no age",
		set:   span(func(s *Settings) *time.Duration { return &s.RotateAge }, true)},

	{Name: "max-batch-events", Group: GroupPace, Arg: "n",
		Usage: "deliver a batch at this many events (default 1000)",
		set:   count(func(s *Settings) *int { return &s.MaxBatchEvents })},
	{Name: "max-batch-bytes", Group: GroupPace, Arg: "size",
		Usage: "deliver a batch at this size of BSON (default 4MiB)",
		set:   size(func(s *Settings, n int64) { s.MaxBatchBytes = int(n) }, false)},
	{Name: "max-batch-age", Group: GroupPace, Arg: "duration",
		Usage: "deliver a batch when its first event has waited this long (default 100ms); 0: as soon as nothing more is at hand",
		set:   span(func(s *Settings) *time.Duration { return &s.MaxBatchAge }, true)},
	{Name: "max-in-flight-bytes", Group: GroupPace, Arg: "size",
		Usage: "read no further while this much waits for delivery (default 8MiB)",
		set:   size(func(s *Settings, n int64) { s.MaxInFlightBytes = int(n) }, false)},
	{Name: "save-interval", Group: GroupPace, Arg: "duration",
		Usage: "save the checkpoint at most this often (default 1s); what was delivered since comes again after a crash; 0: after every batch",
		set:   span(func(s *Settings) *time.Duration { return &s.SaveInterval }, true)},
	{Name: "idle-interval", Group: GroupPace, Arg: "duration",
		Usage: "move the checkpoint on this often while nothing happens (default 10s)",
		set:   span(func(s *Settings) *time.Duration { return &s.IdleInterval }, false)},
	{Name: "retry-min", Group: GroupPace, Arg: "duration",
		Usage: "the pause after a first failed delivery or save; it doubles from there (default 100ms)",
		set:   span(func(s *Settings) *time.Duration { return &s.RetryMin }, false)},
	{Name: "retry-max", Group: GroupPace, Arg: "duration",
		Usage: "the longest such pause (default 30s)",
		set:   span(func(s *Settings) *time.Duration { return &s.RetryMax }, false)},
	{Name: "grace-time", Group: GroupPace, Arg: "duration",
		Usage: "how long a stop may take to deliver what is in hand and to save (default 10s)",
		set:   span(func(s *Settings) *time.Duration { return &s.GraceTime }, false)},

	{Name: "owner", Group: GroupLease, Arg: "name",
		Usage: "what to call this process to others that are refused because of it (default: host and process id)",
		set:   text(func(s *Settings) *string { return &s.Owner }, nil)},
	{Name: "lease-ttl", Group: GroupLease, Arg: "duration",
		Usage: "how long the lease outlives this process if it dies, in Redis (default 15s); in files it ends with the process",
		set:   span(func(s *Settings) *time.Duration { return &s.LeaseTTL }, false)},
	{Name: "lease-wait", Group: GroupLease, Arg: "duration",
		Usage: "how long to wait for a lease that another holds, so that one process can stand by for another; 0: not at all; " +
			"default: until the lease, as it is found, would run out, so that one that died is waited out",
		set: span(func(s *Settings) *time.Duration { return &s.LeaseWait }, true)},

	{Name: "log-level", Group: GroupLog, Arg: "level",
		Usage: "the least level of messages: debug, info (default), warn or error",
		set:   oneOf(func(s *Settings) *string { return &s.LogLevel }, "debug", "info", "warn", "error")},
	{Name: "log-format", Group: GroupLog, Arg: "format",
		Usage: "the form of messages: text (default) or json",
		set:   oneOf(func(s *Settings) *string { return &s.LogFormat }, "text", "json")},
	{Name: "progress-interval", Group: GroupLog, Arg: "duration",
		Usage: "how often to log the progress where standard error is no terminal (default 30s)",
		set:   span(func(s *Settings) *time.Duration { return &s.ProgressInterval }, false)},
}

// ByName finds an option; nil if there is none of that name.
func ByName(name string) *Option {
	for _, o := range Options {
		if o.Name == name {
			return o
		}
	}
	return nil
}

func text(field func(*Settings) *string, check func(string) error) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		switch {
		case items[0] == "":
			return errors.New("is empty; leave it out for the default")
		case !utf8.ValidString(items[0]) || strings.ContainsRune(items[0], 0):
			return errors.New("is not valid text (UTF-8 without zero bytes)")
		}
		if check != nil {
			if err := check(items[0]); err != nil {
				return err
			}
		}
		*field(s) = items[0]
		return nil
	}
}

func oneOf(field func(*Settings) *string, allowed ...string) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		if !slices.Contains(allowed, items[0]) {
			last := len(allowed) - 1
			return fmt.Errorf("is not one of %s and %s", strings.Join(allowed[:last], ", "), allowed[last])
		}
		*field(s) = items[0]
		return nil
	}
}

func onOff(field func(*Settings) *bool) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		if items[0] != "true" && items[0] != "false" {
			return errors.New("is neither true nor false")
		}
		*field(s) = items[0] == "true"
		return nil
	}
}

func count(field func(*Settings) *int) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		n, err := parseCount(items[0])
		if err == nil {
			*field(s) = n
		}
		return err
	}
}

// size is a number of bytes. zero tells that 0 may be said: it becomes -1, which
// is how libraries are told so, because their own 0 is the default.
func size(put func(*Settings, int64), zero bool) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		n, err := parseSize(items[0])
		switch {
		case err != nil:
			return err
		case n == 0 && !zero:
			return errors.New("is not a size: it must be at least 1 byte")
		case n == 0:
			n = -1
		}
		put(s, n)
		return nil
	}
}

// span is a duration. zero is as for size.
func span(field func(*Settings) *time.Duration, zero bool) func(*Settings, []string) error {
	return func(s *Settings, items []string) error {
		d, err := parseDuration(items[0], zero)
		if err != nil {
			return err
		}
		if d == 0 {
			d = -1
		}
		*field(s) = d
		return nil
	}
}

func setCollections(s *Settings, items []string) error {
	for i, c := range items {
		if err := checkCollection(c); err != nil {
			return err
		}
		if slices.Contains(items[:i], c) {
			return fmt.Errorf("has %q twice", c)
		}
	}
	s.Collections = items
	return nil
}

func setStart(s *Settings, items []string) error {
	at, err := parseStart(items[0])
	if err == nil {
		s.Start, s.StartGiven = at, true
	}
	return err
}
