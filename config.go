package rigatoni

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Config says what a pipeline does. Name, Source, Destination and Store are
// required; every other field's zero value is its default.
type Config struct {
	// Name names the pipeline. Its checkpoints are kept under it: the key is
	// Name, and "Name/stream" for each stream of a source that names its streams.
	Name string

	Source      Source
	Destination Destination

	// Store keeps the checkpoints. If it can lease (state.Leaser), the pipeline
	// holds a lease on each key while it runs. The pipeline does not close it.
	Store state.Store

	// StartAt is the cluster time at which a first start begins; zero for now.
	// It says nothing where there is a checkpoint.
	StartAt bson.Timestamp

	// NewStream accepts a first start although the store has checkpoints under
	// this pipeline's name that none of its streams claims (which looks as if
	// streams had been renamed), or although the destination has output already.
	NewStream bool

	// AcceptChangedStream accepts a checkpoint that belongs to another stream:
	// see Start.AcceptChanged.
	AcceptChangedStream string `help:"resume although the stream is another; the code that the refusal prints" arg:"CODE" once:"true" group:"For one start"`

	// MaxBatchEvents, MaxBatchBytes and MaxBatchAge are when a batch is
	// delivered, whichever comes first: at that many events (default 1,000), at
	// that many bytes of BSON (default 4 MiB; one event may have more), or when
	// its first event has waited for so long (default 100 ms; -1: as soon as
	// nothing more is at hand).
	MaxBatchEvents int           `help:"the most events in a batch" default:"1000" min:"1" group:"Delivery"`
	MaxBatchBytes  int           `help:"the most bytes of BSON in a batch" default:"4MiB" kind:"size" min:"1"`
	MaxBatchAge    time.Duration `help:"wait for so long until a batch is full" default:"100ms" off:"a batch never waits"`

	// MaxInFlightBytes bounds the events of a stream that have been read and not
	// yet delivered. Beyond it reading waits for the destination. Default 8 MiB;
	// one reply of the server's is always let in.
	MaxInFlightBytes int `help:"the most bytes read and not yet delivered" default:"8MiB" kind:"size" min:"1"`

	// SaveInterval is the least time between two saves of a stream's checkpoint
	// (default 1 s; -1: save after every batch). What was delivered since the
	// last save comes again after a crash. A clean stop saves at its end.
	SaveInterval time.Duration `help:"save the checkpoint that often while events are delivered" default:"1s" off:"after every batch" min:"1ns" group:"Checkpoints"`

	// IdleInterval is how often the checkpoint of a stream without events is
	// moved on, so that it doesn't fall off the oplog (default 10 s).
	IdleInterval time.Duration `help:"save the checkpoint that often while there are no events" default:"10s" min:"1ns"`

	// RetryMin and RetryMax bound the pauses between attempts to deliver or to
	// save; they double from one to the other, with jitter (defaults 100 ms and
	// 30 s). Attempts to save are at most a second apart, or RetryMin. Attempts go on
	// until they succeed or the pipeline stops.
	RetryMin time.Duration `help:"the first pause between attempts" default:"100ms" min:"1ns"`
	RetryMax time.Duration `help:"the longest pause between attempts" default:"30s" min:"1ns"`

	// GraceTime is how long a clean stop may take to deliver what is in hand and
	// to save (default 10 s). What is not delivered by then comes again.
	GraceTime time.Duration `help:"how long a stop may take to deliver what is in hand" default:"10s" min:"1ns"`

	// Owner, LeaseTTL and LeaseWait are those of state.HoldOptions.
	Owner     string        `help:"the name under which others see the lease; by default host/pid" arg:"NAME" group:"Lease"`
	LeaseTTL  time.Duration `help:"how long the lease outlives a process that has died; by default 15s" min:"1ms"`
	LeaseWait time.Duration `help:"how long to wait for another process; by default until its lease would end" off:"no waiting" min:"1ns"`

	// Logger is told what happens; default slog.Default().
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
	case c.Store == nil:
		return c, errors.New("rigatoni: Config.Store is nil; for a pipeline that may forget its place, say memstore.New()")
	}
	var errs []error
	count := func(field string, v *int, def int) {
		if *v < 0 {
			errs = append(errs, fmt.Errorf("rigatoni: Config.%s is %d; it must be positive, or 0 for %d", field, *v, def))
		}
		*v = cmp.Or(*v, def)
	}
	span := func(field string, v *time.Duration, def time.Duration, disables bool) {
		if *v < 0 && !(disables && *v == -1) {
			errs = append(errs, fmt.Errorf("rigatoni: Config.%s is %v; it must be positive, or 0 for %v", field, *v, def))
		}
		*v = cmp.Or(*v, def)
	}
	count("MaxBatchEvents", &c.MaxBatchEvents, 1000)
	count("MaxBatchBytes", &c.MaxBatchBytes, 4<<20)
	count("MaxInFlightBytes", &c.MaxInFlightBytes, 8<<20)
	span("MaxBatchAge", &c.MaxBatchAge, 100*time.Millisecond, true)
	span("SaveInterval", &c.SaveInterval, time.Second, true)
	span("IdleInterval", &c.IdleInterval, 10*time.Second, false)
	span("RetryMin", &c.RetryMin, 100*time.Millisecond, false)
	span("RetryMax", &c.RetryMax, 30*time.Second, false)
	span("GraceTime", &c.GraceTime, 10*time.Second, false)
	span("LeaseTTL", &c.LeaseTTL, 0, false)
	if c.RetryMax < c.RetryMin {
		errs = append(errs, fmt.Errorf("rigatoni: Config.RetryMax (%v) is less than RetryMin (%v)", c.RetryMax, c.RetryMin))
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// key is the key of a stream's checkpoint.
func (c *Config) key(stream string) string {
	if stream == "" {
		return c.Name
	}
	return c.Name + "/" + stream
}
