//go:build unix

package dbcampaign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
)

// Config says what to write, what to run, and what goes wrong. All fields but Images,
// Disturb, Rate and Copy are required.
type Config struct {
	Source      string // the server's URI
	Database    string // which must not exist
	Collections []string
	Images      bool // the collections record pre- and post-images

	Changes int // over all collections
	Docs    int // documents a collection, each inserted and deleted again and again
	Rate    int // changes a second; 0: as many as possible
	Seed    uint64
	Copy    *Copy

	// Binary is the rigatoni command, and Flags the flags of "rigatoni run" beside
	// source, database, collections and name. Without Kills there is a single process.
	Binary         string
	Flags          []string
	Kills, Freezes int

	// Disturb are what happens to the servers, each sequence spread over the writing.
	Disturb [][]Disturbance
	// Judge compares the destination with what was written, and returns what is
	// wrong, in sentences. It is called until nothing is, or for Patience.
	Judge    func(context.Context, Journal) ([]string, error)
	Patience time.Duration
	Logf     func(string, ...any)
}

// A Disturbance is one trouble of a server.
type Disturbance struct {
	Name string
	Do   func(context.Context) error
}

// Result is the end of a run.
type Result struct {
	Wrong                   []string
	Journal                 Journal
	Kills, WhileStreaming   int
	Freezes                 int
	Ends                    map[int]int // of processes, by exit code
	Writing, UntilEqual     time.Duration
	Inserts, Updates        int
	Replaces, Deletes, Txns int

	// Of a copy: the documents that were there, the changes that were made while it was
	// under way, and the kills, freezes and disturbances by then.
	Documents, Meanwhile         int
	KillsCopying, TroubleCopying int
}

func (r *Result) String() string {
	text := fmt.Sprintf("%d inserts, %d updates, %d replaces, %d deletes, %d transactions, in %.0f s, and %.1f s until the destination had all; "+
		"%d kills, %d of them of the process that had the stream, %d freezes; ends by exit code: %v",
		r.Inserts, r.Updates, r.Replaces, r.Deletes, r.Txns, r.Writing.Seconds(), r.UntilEqual.Seconds(), r.Kills, r.WhileStreaming, r.Freezes, r.Ends)
	if r.Documents > 0 {
		text += fmt.Sprintf("; while %d documents were copied: %d changes, %d kills and freezes, %d disturbances of servers",
			r.Documents, r.Meanwhile, r.KillsCopying, r.TroubleCopying)
	}
	return text
}

// Run runs a campaign. An error means that it could not be run, or that the pipeline
// ended in a way that no supervisor mends.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	client, err := mongoclient.Connect(options.Client().ApplyURI(cfg.Source))
	if err != nil {
		return nil, err
	}
	defer client.Disconnect(context.WithoutCancel(ctx))
	r := &runner{
		Config: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1<<63)),
		writer: &writer{
			db: client.Database(cfg.Database, options.Database().SetWriteConcern(writeconcern.Majority())),
			is: contents{seed: cfg.Seed, pad: cfg.Copy.size()}, rate: cfg.Rate, lanes: lanes(cfg.Seed, cfg.Collections, 8, cfg.Docs), journal: Journal{},
		},
		copy: copying{Copy: cfg.Copy},
	}
	if err := r.makeCollections(ctx); err != nil {
		return nil, err
	}
	if r.Copy != nil {
		if err := r.prepare(ctx); err != nil {
			return nil, err
		}
	}
	return r.run(ctx)
}

type runner struct {
	Config
	writer *writer
	rng    *rand.Rand
	owners []*owner
	copy   copying
	result Result
}

func (r *runner) makeCollections(ctx context.Context) error {
	o := options.CreateCollection()
	if r.Images {
		o.SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})
	}
	errs := []error{r.writer.marks(nil).Database().CreateCollection(ctx, r.writer.marks(nil).Name())}
	for _, c := range r.Collections {
		errs = append(errs, r.writer.db.CreateCollection(ctx, c, o))
	}
	return errors.Join(errs...)
}

// args are those of the pipeline's command.
func (r *runner) args() []string {
	return append([]string{
		"run", "--source", r.Source, "--database", r.Database, "--collections", strings.Join(r.Collections, ","),
		"--name", r.Database, "--log-format", "json", "--lease-ttl", "2s", "--lease-wait", "1h",
	}, r.Flags...)
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 2)
	begin := func() {
		o := &owner{binary: r.Binary, args: r.args()}
		r.owners = append(r.owners, o)
		go func() {
			err := o.run(running)
			if err != nil {
				cancel(err)
			}
			ended <- err
		}()
	}
	begin()
	err := r.awaitOwner(ctx, r.owners[0])
	if err == nil && r.Kills > 0 {
		begin()
	}
	if err == nil {
		err = r.writeAndDisturb(ctx, cancel)
	}
	if err == nil {
		err = r.awaitEqual(ctx)
	}
	stop()
	for range r.owners {
		err = errors.Join(err, <-ended)
	}
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	r.count()
	// Once more, when nothing can arrive any more.
	r.result.Wrong, err = r.Judge(ctx, r.result.Journal)
	return &r.result, err
}

// writeAndDisturb writes everything, while everything goes wrong.
func (r *runner) writeAndDisturb(ctx context.Context, cancel context.CancelCauseFunc) error {
	began := time.Now()
	n := 3 + len(r.Disturb)
	errs := make(chan error, n)
	go func() {
		err := r.writeAll(ctx)
		r.result.Journal, r.result.Writing = r.writer.journal, time.Since(began)
		errs <- err
	}()
	go func() { errs <- r.watchCopy(ctx) }()
	go func() { errs <- r.killAndFreeze(ctx) }()
	for i, all := range r.Disturb {
		rng := rand.New(rand.NewPCG(r.Seed, uint64(i)+1<<62))
		go func() { errs <- r.disturb(ctx, rng, all) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel(err)
		}
	}
	return first
}

func (r *runner) disturb(ctx context.Context, rng *rand.Rand, all []Disturbance) error {
	for i, at := range r.moments(rng, len(all)) {
		if err := r.awaitMoment(ctx, at); err != nil {
			return err
		}
		began := time.Now()
		if r.underWay() {
			r.copy.disturbances.Add(1)
		}
		if err := all[i].Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", all[i].Name, err)
		}
		r.Logf("after %v: %s, which took %.1f s", at, all[i].Name, time.Since(began).Seconds())
	}
	return nil
}

// killAndFreeze kills and freezes one process after the other, most often the one that
// has the stream.
func (r *runner) killAndFreeze(ctx context.Context) error {
	freezes := map[int]bool{}
	for len(freezes) < r.Freezes {
		freezes[r.rng.IntN(r.Kills+r.Freezes)] = true
	}
	for i, at := range r.moments(r.rng, r.Kills+r.Freezes) {
		if err := r.awaitMoment(ctx, at); err != nil {
			return err
		}
		if err := r.awaitOwner(ctx, r.owners...); err != nil {
			return err
		}
		most := 400
		if r.underWay() {
			most = 100 // or the copy ends meanwhile
		}
		if err := pause(ctx, time.Duration(r.rng.IntN(most))*time.Millisecond); err != nil {
			return err
		}
		if r.underWay() {
			r.copy.kills++
			r.Logf("with %d of %d documents copied: a kill, or a freeze", r.copy.copied.Load(), r.copy.documents)
		}
		if freezes[i] {
			if err := r.freeze(ctx); err != nil {
				return err
			}
			continue
		}
		victim := r.streaming()
		if r.rng.IntN(8) == 0 {
			victim = 1 - victim
		}
		r.result.Kills++
		if r.owners[victim].streams() {
			r.result.WhileStreaming++
		}
		r.owners[victim].kill()
	}
	return nil
}

func (r *runner) streaming() int {
	if r.owners[1].streams() {
		return 1
	}
	return 0
}

// freeze freezes the process that has the stream until the other one has taken over
// and delivers.
func (r *runner) freeze(ctx context.Context) error {
	frozen := r.streaming()
	if err := r.owners[frozen].signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := r.awaitOwner(ctx, r.owners[1-frozen])
	if err == nil {
		err = pause(ctx, time.Duration(r.rng.IntN(500))*time.Millisecond)
	}
	r.result.Freezes++
	return errors.Join(err, r.owners[frozen].signal(syscall.SIGCONT))
}

// await waits for a condition.
func (r *runner) await(ctx context.Context, holds func() bool) error {
	for !holds() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// ownerTime is how long nobody may have the stream, with the servers in trouble.
const ownerTime = 90 * time.Second

// awaitOwner waits until one of some processes has the stream.
func (r *runner) awaitOwner(ctx context.Context, of ...*owner) error {
	limited, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	err := r.await(limited, func() bool { return slices.ContainsFunc(of, (*owner).streams) })
	if err != nil && ctx.Err() == nil {
		for _, o := range of {
			err = fmt.Errorf("%w\n%s", err, o.log())
		}
		err = fmt.Errorf("nobody has had the stream for %v: %w", ownerTime, err)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// judgeTime is how long one comparison may take.
const judgeTime = 2 * time.Minute

// awaitEqual waits until the destination has everything, or for the patience.
func (r *runner) awaitEqual(ctx context.Context) error {
	began := time.Now()
	for {
		limited, cancel := context.WithTimeout(ctx, judgeTime)
		wrong, err := r.Judge(limited, r.result.Journal)
		cancel()
		r.result.UntilEqual = time.Since(began)
		if err != nil || len(wrong) == 0 || r.result.UntilEqual > r.Patience {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *runner) count() {
	ops := map[string]int{}
	for _, changes := range r.result.Journal {
		for _, c := range changes {
			ops[c.Op]++
			if r.Copy != nil && c.When == Meanwhile {
				r.result.Meanwhile++
			}
		}
	}
	r.result.Documents, r.result.KillsCopying, r.result.TroubleCopying = r.copy.documents, r.copy.kills, int(r.copy.disturbances.Load())
	r.result.Inserts, r.result.Updates, r.result.Replaces, r.result.Deletes = ops["insert"], ops["update"], ops["replace"], ops["delete"]
	for _, l := range r.writer.lanes {
		r.result.Txns += l.txns
	}
	r.result.Ends = map[int]int{}
	for _, o := range r.owners {
		for _, code := range slices.Sorted(maps.Keys(o.ends)) {
			r.result.Ends[code] += o.ends[code]
		}
	}
}
