package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Config describes a pipeline. Name, Source, Destination and, unless the
// destination keeps the checkpoints itself ([Checkpointer]), Store are required;
// every other field's zero value is its default. The options among the fields
// are declared by their tags, from which the command makes its flags.
type Config struct {
	// Name names the pipeline. Its checkpoints are kept under it: the key is
	// Name, and "Name/stream" for each stream of a source that names its streams.
	Name string

	Source      Source
	Destination Destination

	// Store keeps the checkpoints. The pipeline holds a lease on each key while
	// it runs, and a store that has none (state.Leaser) is refused, unless
	// LeaseTTL is -1. The pipeline does not close the store.
	Store state.Store

	// FirstStart is what happens where there is no checkpoint yet.
	FirstStart FirstStart

	// AcceptChangedStream is the Accept code of a [ChangedStreamError], and
	// AcceptOutput that of an [OutputError] where there is a checkpoint. Each
	// accepts what the error found, and nothing that comes later.
	AcceptChangedStream string `help:"resume although the stream is another; the code that the refusal prints" arg:"CODE" once:"true" group:"For one start"`
	AcceptOutput        string `help:"continue although output and checkpoint disagree; the code that the refusal prints" arg:"CODE" once:"true"`

	// Snapshot is whether what exists is copied, before the changes and between them
	// ([Event.IsSnapshot]): "never" (default), or "initial", at a first start; or
	// "when-needed", then and where the server can't resume from the checkpoint, as
	// OnHistoryLost does with its policy "snapshot". A stream that has a checkpoint is
	// not copied; a copy that is under way goes on whatever Snapshot is. It needs a
	// source that can copy ([Snapshotter]). With FirstStart.Time the events since then
	// are delivered as well.
	Snapshot string `help:"copy the documents that exist: at a first start, or also where the server can't resume from the checkpoint" default:"never" oneof:"never|initial|when-needed" arg:"WHEN" group:"Snapshot"`

	// OnHistoryLost is what to do where the server can't resume from the checkpoint
	// ([ErrHistoryLost]), policies that are tried in order. "resume-from-time" opens
	// the stream at the checkpoint's cluster time: it helps where the oplog still has
	// that time and only the token is unusable, and redelivers the events of that
	// moment. "snapshot" skips all events until now and copies what exists, so that the
	// destination has every document as it is then; "now" skips them and copies nothing.
	// Where a copy was under way it begins again with any of the three. Each recovery is a [Gap] on record, in
	// the save of the position that the stream resumes from; after three within an
	// hour the pipeline stops, with [ErrTooManyRecoveries]. Default: the pipeline
	// stops.
	OnHistoryLost []string `help:"what to do where the server can't resume from the checkpoint, tried in order; by default stop" arg:"POLICIES" oneof:"resume-from-time|snapshot|now" group:"Lost history"`

	// Transform is called for each event before it is delivered, in the order of
	// the stream. It returns the event, or another made with [Event.With], and
	// whether to deliver it; an event that is not delivered counts as delivered.
	// An error is retried as one of Deliver, and Permanent refuses the event.
	Transform func(ctx context.Context, ev Event) (out Event, keep bool, err error)

	// Concurrency is how many calls of Deliver run at once, for different
	// documents (default 1). Each document's events stay in order; an event of
	// no single document (drop, rename, dropDatabase, invalidate) is delivered
	// alone, after all before it and before all after it. Above 1 it requires a
	// [Concurrent] sink, as a [Func] is.
	Concurrency int `help:"deliver the events of up to N documents at once, each document's in order" default:"1" min:"1" max:"10000" group:"Delivery"`

	// MaxBatchEvents and MaxBatchBytes bound a batch: the number of events
	// (default 1,000) and bytes of BSON (default 4 MiB; a single event may have
	// more). A batch is delivered as soon as the sink is free, with what is at
	// hand, so batches grow under load. MaxBatchAge makes it wait for more: until
	// the batch is full or its first event has waited for that long (default 0:
	// no wait).
	MaxBatchEvents int           `help:"the most events in a batch" default:"1000" min:"1"`
	MaxBatchBytes  int           `help:"the most bytes of BSON in a batch" default:"4MiB" kind:"size" min:"1"`
	MaxBatchAge    time.Duration `help:"how long a batch waits until it is full; by default it doesn't wait" off:"no wait"`

	// MaxInFlightBytes bounds the events of a stream that have been read and not
	// yet delivered: reading waits for the destination. Default 8 MiB; one reply
	// of the server is always let in.
	MaxInFlightBytes int `help:"the most bytes read and not yet delivered" default:"8MiB" kind:"size" min:"1"`

	// MaxAttempts is how often the delivery of an event is tried before the event
	// is refused (default 0: until it succeeds or the pipeline stops).
	// A batch that fails that often is delivered event by event, each of
	// which has as many attempts again, to find the one to blame.
	// A destination that is away for longer than all attempts take (with the
	// default pauses, 10 attempts take less than a minute) has its events refused
	// too: leave it 0, or large, where that happens.
	MaxAttempts int `help:"refuse an event after N failed attempts; by default never" off:"never" min:"1"`

	// DeadLetters takes the events that are refused; the pipeline then goes on
	// without them. Default nil: the pipeline stops, with a [RefusedError].
	DeadLetters DeadLetters

	// RetryMin and RetryMax bound the pauses between attempts to deliver or to
	// save; they double from one to the other, with jitter (defaults 100 ms and
	// 30 s). Attempts to save are at most a second apart, or RetryMin.
	RetryMin time.Duration `help:"the first pause between attempts" default:"100ms" min:"1ns"`
	RetryMax time.Duration `help:"the longest pause between attempts" default:"30s" min:"1ns"`

	// DeliverTimeout is how long a Deliver may take without progress (its return,
	// or Batch.Done) before its context ends and the attempt counts as failed
	// (default 5 min; -1: no limit). If it then doesn't return within the grace
	// time, the pipeline stops with [ErrDeliveryHung], so that a standby can take
	// over. The same holds for Sync, Committed, Transform and DeadLetters.Put.
	DeliverTimeout time.Duration `help:"the longest time without progress in a delivery" default:"5m" off:"no limit" min:"1ns"`

	// SaveInterval bounds what is redelivered after a crash: the checkpoint is
	// saved that often while events are delivered, whatever the deliveries do
	// (default 1 s). -1: it is also saved after every batch, before the next one
	// is delivered. A clean stop saves at its end.
	SaveInterval time.Duration `help:"how often to save the checkpoint while events are delivered" default:"1s" off:"after every batch" min:"1ns" group:"Checkpoints"`

	// IdleInterval is how often the checkpoint of a stream without events is
	// advanced, so that it doesn't fall off the oplog (default 10 s).
	IdleInterval time.Duration `help:"how often to save the checkpoint while there are no events" default:"10s" min:"1ns"`

	// RunwayWarning is the shortest time that the server's history may reach back
	// beyond a checkpoint before a warning is logged (default 6 h; -1: none): see
	// StreamStatus.Runway.
	RunwayWarning time.Duration `help:"warn when the oplog reaches back beyond a checkpoint by less than this" default:"6h" off:"no warning" min:"1s"`

	// GraceTime is how long a stop may take to deliver what is in hand (default
	// 10 s). What is not delivered by then is redelivered after the next start,
	// and Run returns [ErrUndelivered].
	GraceTime time.Duration `help:"how long a stop may take to deliver what is in hand" default:"10s" min:"1ns"`

	// Owner, LeaseTTL and LeaseWait are those of state.HoldOptions. LeaseTTL -1
	// does without a lease: nothing then keeps a second pipeline of the same
	// name from delivering the same events and setting the checkpoint back.
	Owner     string        `help:"the name under which others see the lease; by default host/pid" arg:"NAME" group:"Lease"`
	LeaseTTL  time.Duration `help:"how long the lease outlives a process that has died; by default 15s" off:"no lease" min:"1ms"`
	LeaseWait time.Duration `help:"how long to wait for another process; by default until its lease would end" off:"no waiting" min:"1ns"`

	// Hooks are called as the pipeline works, for metrics and tests.
	Hooks Hooks

	// Logger receives log output; default slog.Default().
	Logger *slog.Logger
}

// withDefaults checks the configuration and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Name == "":
		return c, errors.New("rigatoni: Config.Name is empty; the checkpoint is kept under it")
	case strings.Contains(c.Name, "/"):
		return c, fmt.Errorf("rigatoni: Config.Name %q has a slash, which separates the name from a stream's", c.Name)
	case c.Source == nil:
		return c, errors.New("rigatoni: Config.Source is nil")
	case c.Destination == nil:
		return c, errors.New("rigatoni: Config.Destination is nil")
	}
	if err := option.Complete("rigatoni: Config.", &c); err != nil {
		return c, err
	}
	if c.RetryMax < c.RetryMin {
		return c, fmt.Errorf("rigatoni: Config.RetryMax (%v) is less than RetryMin (%v)", c.RetryMax, c.RetryMin)
	}
	if err := checkPolicies(c.OnHistoryLost); err != nil {
		return c, err
	}
	if err := c.chooseSnapshot(); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, c.chooseStore()
}

// The values of Config.Snapshot.
const (
	snapshotInitial    = "initial"
	snapshotWhenNeeded = "when-needed"
)

// chooseSnapshot checks that the source can copy what the configuration asks for, and
// makes when-needed a policy for lost history: the last one, since nothing is left to
// try after it.
func (c *Config) chooseSnapshot() error {
	if c.Snapshot == snapshotWhenNeeded && !slices.Contains(c.OnHistoryLost, resumeSnapshot) {
		if slices.Contains(c.OnHistoryLost, resumeNow) {
			return errors.New(`rigatoni: Config.Snapshot is "when-needed", which copies where history is lost, and OnHistoryLost has "now", which doesn't; leave out one of them`)
		}
		c.OnHistoryLost = append(slices.Clip(c.OnHistoryLost), resumeSnapshot)
	}
	setting := ""
	switch {
	case c.copiesAtFirst():
		setting = fmt.Sprintf("Config.Snapshot is %q", c.Snapshot)
	case slices.Contains(c.OnHistoryLost, resumeSnapshot):
		setting = fmt.Sprintf("Config.OnHistoryLost has %q", resumeSnapshot)
	default:
		return nil
	}
	if err := canSnapshot(c.Source); err != nil {
		return fmt.Errorf("rigatoni: %s, but %w", setting, err)
	}
	return nil
}

// canSnapshot returns why a source can't copy.
func canSnapshot(src Source) error {
	s, ok := src.(Snapshotter)
	if !ok {
		return fmt.Errorf("the source (%T) can't copy: it is no rigatoni.Snapshotter", src)
	}
	if err := s.CanSnapshot(); err != nil {
		return fmt.Errorf("the source can't copy: %w", err)
	}
	return nil
}

// copiesAtFirst reports whether a first start begins with a copy.
func (c *Config) copiesAtFirst() bool {
	return c.Snapshot == snapshotInitial || c.Snapshot == snapshotWhenNeeded
}

// chooseStore finds the store of the checkpoints and checks that it has what the
// configuration needs.
func (c *Config) chooseStore() error {
	if keeper, ok := As[Checkpointer](c.Destination); ok {
		if c.Store != nil {
			return errors.New("rigatoni: Config.Store is set, but the destination keeps the checkpoints itself; leave Store nil")
		}
		if c.LeaseTTL < 0 {
			return errors.New("rigatoni: Config.LeaseTTL is -1 (no lease), but the destination's transactions need a lease")
		}
		c.Store = keeper.Checkpoints()
	}
	if c.Store == nil {
		return errors.New("rigatoni: Config.Store is nil; for a pipeline that may forget its checkpoint, use memstore.New()")
	}
	if _, ok := state.As[state.Leaser](c.Store); !ok && c.LeaseTTL >= 0 {
		return fmt.Errorf("rigatoni: the store (%T) has no leases (state.Leaser), so nothing would keep a second pipeline out; "+
			"if a decorator hides them, give it an Unwrap method or use state.Intercept; to run without a lease, set Config.LeaseTTL to -1", c.Store)
	}
	return nil
}

// key is the key of a stream's checkpoint.
func (c *Config) key(stream string) string {
	if stream == "" {
		return c.Name
	}
	return c.Name + "/" + stream
}
