package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Config says what to write, what to run, and how often to kill it. Source,
// Database, Collections, Changes, Mix, Binary, StoreURL, Store and Out are
// required.
type Config struct {
	// Source is the server's URI. Database must not exist yet. It is left as it is
	// at the end.
	Source      string
	Database    string
	Collections []string

	// Documents is how many there are before the pipeline is started, over all
	// collections. If it is not 0, the pipeline has to copy them (Flags says so), and is
	// killed while it does.
	Documents int
	// Changes is how many there are, over all collections, in the proportions of
	// Mix. Seed decides which they are, and when the pipeline is killed.
	Changes int
	Mix     Mix
	Seed    uint64
	// Writers is how many write to a collection at once; default 1.
	Writers int
	// Rate is how many changes to write in a second; 0 for as many as possible.
	Rate int

	// Kills is how often to kill the pipeline, spread at random over the writing.
	Kills int
	// KillStarting: a kill need not wait until the pipeline's streams are open
	// (the first one always does).
	KillStarting bool
	// KillNow, if it is not nil, asks for a further kill with each value.
	KillNow <-chan struct{}

	// Binary is the rigatoni command, and Flags the flags of "rigatoni run" in
	// addition to source, database, collections, name, store and to.
	Binary string
	Flags  []string
	// StoreURL is the store of the pipeline, and Store the same one, opened by the
	// caller, to read the checkpoints.
	StoreURL string
	Store    state.Store
	// OneEach gives each collection a stream of its own (the flag is added).
	OneEach bool
	// Out is the directory for the files, ToOptions the parameters of its URL: "?format=canonical".
	Out, ToOptions string
	// TakeTo is where the consumer of finished files moves them while the
	// pipeline runs; empty: it reads them where they are.
	TakeTo string

	// RestartOn are exit codes after which the process is started again, as by a
	// supervisor. Any other fails the run.
	RestartOn []int

	// Disturb, if it is not nil, runs concurrently, once the pipeline streams: to
	// restart a server, say. written returns the number of changes written. Its ctx
	// ends when everything has arrived; the run waits for it, and fails with it.
	Disturb func(ctx context.Context, written func() int) error
	// Watch, if it is not nil, is called about ten times a second, and at the start
	// and the end of each process.
	Watch func(Progress)
	// Patience is how long to wait for changes that don't arrive (default 30 s).
	Patience time.Duration
}

// Progress is the state of a run.
type Progress struct {
	Written     int // changes acknowledged
	Arrived     int // changes that were delivered, each counted once
	Redelivered int // lines that were repeats, and were cut back before a consumer saw the first of them
	Finished    int // changes that the consumer of finished files has seen, each counted once
	Twice       int // lines of finished files that were repeats: must be none
	Processes   []Process
}

// Result is the end of a run.
type Result struct {
	Progress                  Progress
	Inserts, Updates, Deletes int // written

	// Copied is how many documents are in finished files as they were at one moment;
	// Changes how many changes are there, and InCopy how many are not, because they
	// were made before their document was copied.
	Copied, Changes, InCopy int

	Lost   int // written and never in a finished file
	MadeUp int // in a finished file and never written

	// FaultCount counts everything that is wrong: each lost or made-up change, each
	// line out of order, torn, unreadable or repeated without need. Faults describes
	// the first few of each kind.
	FaultCount int
	Faults     []string
	// Took is the time from the first write until everything had arrived.
	Took time.Duration
}

// OK reports whether nothing is wrong.
func (r *Result) OK() bool { return r.FaultCount == 0 }

func (c *Config) withDefaults() error {
	switch {
	case c.Source == "", c.Database == "", len(c.Collections) == 0, c.Binary == "", c.StoreURL == "", c.Store == nil, c.Out == "":
		return errors.New("crashtest: a required field of Config is empty")
	case c.Changes < 1 || c.Mix.Inserts < 1 || c.Mix.Updates < 0 || c.Mix.Deletes < 0:
		return errors.New("crashtest: there must be changes, and inserts among them")
	case c.Kills < 0:
		return errors.New("crashtest: Config.Kills is negative")
	}
	c.Writers = max(1, c.Writers)
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	return nil
}

// Run runs the test. An error means that it could not be run; what the pipeline
// did wrong is in the result.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	client, err := mongoclient.Connect(options.Client().ApplyURI(cfg.Source))
	if err != nil {
		return nil, errors.New("crashtest: the source is not a URI that the driver takes") // its own message may quote it
	}
	// With ctx: if it ends because the server is gone, the driver would wait half a
	// minute for it.
	defer client.Disconnect(ctx)
	for _, c := range cfg.Collections {
		// Created beforehand, so that the lanes don't race for it.
		if err := client.Database(cfg.Database).CreateCollection(ctx, c); err != nil {
			return nil, fmt.Errorf("making the collection %s: %w", c, err)
		}
	}
	writer := newWriter(client, &cfg)
	before, err := writer.fill(ctx, cfg.Documents)
	if err != nil {
		return nil, err
	}
	r := &runner{
		cfg: &cfg, writer: writer, before: before, ledger: cfg.record(before, false),
		tail:     tail{dir: cfg.Out, files: map[string]int64{}},
		consumer: consumer{dir: cfg.Out, moveTo: cfg.TakeTo, seen: map[string]bool{}, ledger: cfg.record(before, true)},
		rng:      rand.New(rand.NewPCG(cfg.Seed, 1<<63)),
	}
	return r.run(ctx)
}

func (c *Config) record(before map[Doc]bool, finished bool) record {
	if c.Documents > 0 {
		return newCopyLedger(c.Seed, before, finished)
	}
	return newLedger(c.Seed, c.OneEach)
}

type runner struct {
	cfg    *Config
	writer *writer
	before map[Doc]bool // the documents that there are at first
	ledger record       // of what was delivered
	tail   tail
	rng    *rand.Rand

	consumer consumer

	child     *Child
	processes []Process
}

type outcome struct {
	written map[Doc][]Change
	err     error
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if r.child != nil { // nil: the last one could not be started
			r.child.Kill()
		}
	}()
	if err := r.awaitStreaming(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	written := make(chan outcome, 1)
	go func() {
		w, err := r.writer.run(ctx)
		written <- outcome{w, err}
	}()
	disturbed, calm := r.disturb(ctx)
	for _, at := range r.schedule() {
		if err := r.killAt(ctx, at); err != nil {
			return nil, err
		}
	}
	out, err := r.awaitWritten(ctx, written)
	if err != nil {
		return nil, err
	}
	for doc := range r.before {
		out.written[doc] = append([]Change{{Doc: doc, Op: Insert, Version: 1}}, out.written[doc]...)
	}
	if err := r.awaitArrival(ctx, out.written); err != nil {
		return nil, err
	}
	took := time.Since(began)
	calm()
	if err := <-disturbed; err != nil {
		return nil, fmt.Errorf("disturbing: %w", err)
	}
	if err := r.finish(ctx); err != nil {
		return nil, err
	}
	return r.result(out.written, took), nil
}

// disturb runs the disturbance, if there is one, until calm is called.
func (r *runner) disturb(ctx context.Context) (result <-chan error, calm context.CancelFunc) {
	done := make(chan error, 1)
	ctx, calm = context.WithCancel(ctx)
	if r.cfg.Disturb == nil {
		done <- nil
		return done, calm
	}
	go func() {
		err := r.cfg.Disturb(ctx, func() int { return int(r.writer.written.Load()) })
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = nil
		}
		done <- err
	}()
	return done, calm
}

// schedule returns the numbers of written changes at which the pipeline is killed: one at
// random in each of as many equal parts of the middle. A copy goes by the clock.
func (r *runner) schedule() []int {
	first, last := r.cfg.Changes/20, r.cfg.Changes*19/20
	part := float64(last-first) / float64(max(1, r.cfg.Kills))
	moments := make([]int, r.cfg.Kills)
	for i := range moments {
		moments[i] = first + int((float64(i)+r.rng.Float64())*part)
	}
	slices.Sort(moments)
	return moments
}

// killAt waits until a number of changes are written, or the process has copied some
// documents, kills it, and starts the next.
func (r *runner) killAt(ctx context.Context, written int) error {
	var err error
	if r.cfg.Documents > 0 {
		err = r.awaitCopied(ctx)
	} else {
		err = r.awaitChanges(ctx, written)
	}
	if err != nil {
		return err
	}
	r.child.Kill()
	return r.endAndBegin(ctx, true)
}

// awaitChanges waits until a number of changes are written, and the pipeline streams, and
// for a random time.
func (r *runner) awaitChanges(ctx context.Context, written int) error {
	for int(r.writer.written.Load()) < written {
		if err := r.tick(ctx); err != nil {
			return err
		}
	}
	if !r.cfg.KillStarting {
		if err := r.awaitStreaming(ctx); err != nil {
			return err
		}
	}
	select {
	case <-time.After(time.Duration(r.rng.IntN(50_000)) * time.Microsecond):
		return r.poll()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitCopied waits until the process has copied a random number of documents, so that
// some are left for those after it, or copies no more.
func (r *runner) awaitCopied(ctx context.Context) error {
	if err := r.awaitStreaming(ctx); err != nil {
		return err
	}
	enough := 1 + r.rng.IntN(3*r.cfg.Documents/(2*(r.cfg.Kills+1)))
	since, last := time.Now(), -1
	for {
		n := r.processes[len(r.processes)-1].Lines
		if n != last {
			since, last = time.Now(), n
		}
		if n >= enough || time.Since(since) > time.Second {
			return nil
		}
		if err := r.tick(ctx); err != nil {
			return err
		}
	}
}

// endAndBegin replaces a process that has ended.
func (r *runner) endAndBegin(ctx context.Context, killed bool) error {
	if err := r.end(killed); err != nil {
		return err
	}
	return r.begin(ctx)
}

func (r *runner) awaitStreaming(ctx context.Context) error {
	deadline := time.Now().Add(60 * time.Second)
	for !r.child.WasReady() {
		if err := r.tick(ctx); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the pipeline has not opened its streams within a minute:\n%s", r.child.Log())
		}
	}
	return nil
}

func (r *runner) awaitWritten(ctx context.Context, written <-chan outcome) (outcome, error) {
	for {
		select {
		case out := <-written:
			return out, out.err
		default:
		}
		if err := r.tick(ctx); err != nil {
			return outcome{}, err
		}
	}
}

// awaitArrival waits until everything has arrived, or nothing has for a while.
func (r *runner) awaitArrival(ctx context.Context, written map[Doc][]Change) error {
	since, last := time.Now(), r.ledger.tally()
	for !r.ledger.complete(written) && time.Since(since) < r.cfg.Patience {
		if err := r.tick(ctx); err != nil {
			return err
		}
		if now := r.ledger.tally(); now != last {
			since, last = time.Now(), now
		}
	}
	return nil
}

// tick waits for a moment, or for the end of the process.
func (r *runner) tick(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.cfg.moment()):
		return r.poll()
	case <-r.cfg.KillNow:
		r.child.Kill()
		return r.endAndBegin(ctx, true)
	case <-r.child.Exited():
		code := r.child.Code()
		if code < 0 && stopped(ctx) {
			return ctx.Err()
		}
		if !slices.Contains(r.cfg.RestartOn, code) {
			return fmt.Errorf("the pipeline ended by itself, with exit code %d:\n%s", code, r.child.Log())
		}
		return r.endAndBegin(ctx, false)
	}
}

// moment is a tenth of a second; a copy is faster than changes are.
func (c *Config) moment() time.Duration {
	if c.Documents > 0 {
		return 2 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// stopped reports whether ctx ends soon. A Ctrl-C reaches all processes of a
// terminal; a pipeline that is just starting dies of it, perhaps before this process
// has got its own.
func stopped(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(time.Second):
		return false
	}
}

// poll reads what has arrived.
func (r *runner) poll() error {
	err := r.tail.poll(r.ledger.arrive)
	if err == nil {
		err = r.consumer.take(func(base string) error { return r.tail.read(base, r.ledger.arrive) })
	}
	t := r.ledger.tally()
	proc := &r.processes[len(r.processes)-1]
	proc.Lines, proc.Again, proc.Reached = t.lines-r.linesBefore(proc), t.twice-r.twiceBefore(proc), t.arrived
	proc.Streaming = r.child.WasReady()
	r.watch()
	return err
}

func (r *runner) linesBefore(proc *Process) (n int) {
	for _, l := range r.processes[:proc.N-1] {
		n += l.Lines
	}
	return n
}

func (r *runner) twiceBefore(proc *Process) (n int) {
	for _, l := range r.processes[:proc.N-1] {
		n += l.Again
	}
	return n
}

func (r *runner) watch() {
	if r.cfg.Watch != nil {
		r.cfg.Watch(r.progress())
	}
}

func (r *runner) progress() Progress {
	delivered, finished := r.ledger.tally(), r.consumer.ledger.tally()
	return Progress{
		Written: int(r.writer.written.Load()), Arrived: delivered.arrived, Redelivered: delivered.twice,
		Finished: finished.arrived, Twice: finished.twice, Processes: slices.Clone(r.processes),
	}
}

// begin starts a process.
func (r *runner) begin(ctx context.Context) error {
	checkpoints, err := r.checkpoints(ctx)
	if err != nil {
		return err
	}
	proc := Process{N: len(r.processes) + 1, Started: time.Now(), Checkpoints: checkpoints}
	proc.Resumed = r.ledger.begin(checkpoints)
	proc.Before, proc.Reached = r.ledger.tally().arrived, r.ledger.tally().arrived
	if r.child, err = Start(r.cfg.Binary, r.cfg.args()); err != nil {
		return fmt.Errorf("starting the pipeline: %w", err)
	}
	r.processes = append(r.processes, proc)
	r.watch()
	return nil
}

// end records the end of a process.
func (r *runner) end(killed bool) error {
	proc := &r.processes[len(r.processes)-1]
	proc.Ended, proc.Killed, proc.Exit = time.Now(), killed, r.child.cmd.ProcessState.String()
	if killed {
		proc.Exit = "SIGKILL"
	}
	return r.poll()
}

// finish stops the last process cleanly, once it has opened its output: it is what
// finishes the files.
func (r *runner) finish(ctx context.Context) error {
	if err := r.awaitStreaming(ctx); err != nil {
		return err
	}
	if err := r.child.Stop(ctx); err != nil {
		return err
	}
	return r.end(false)
}

func (r *runner) result(written map[Doc][]Change, took time.Duration) *Result {
	res := &Result{Took: took}
	for _, changes := range written {
		for _, c := range changes {
			switch c.Op {
			case Insert:
				res.Inserts++
			case Update:
				res.Updates++
			case Delete:
				res.Deletes++
			}
		}
	}
	res.Inserts -= len(r.before)
	consumed := r.consumer.ledger.wrong()
	res.Lost, res.MadeUp = r.consumer.ledger.compare(written)
	consumed.kind()
	open, err := r.consumer.left()
	if err != nil {
		consumed.add("%v", err)
	}
	for _, file := range open {
		consumed.add("%s is not finished after a clean stop", file)
	}
	t := r.consumer.ledger.tally()
	res.Copied, res.Changes, res.InCopy = t.copied, t.changes, t.inCopy
	res.Progress = r.progress()
	for _, f := range []*faults{consumed, r.ledger.wrong()} {
		res.FaultCount += f.n
		res.Faults = append(res.Faults, f.words...)
	}
	return res
}
