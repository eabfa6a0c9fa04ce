package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// demoFlags are the demo's flags.
type demoFlags struct {
	source, store string
	mongod        bool
	snapshot      bool
	documents     int // of the snapshot
	events, kills int
	seed          uint64
	keep          bool
}

// The demo writes for about this long, within these rates.
const (
	demoTime    = 5 // seconds
	demoMinRate = 100
	demoMaxRate = 5000
)

// demoPace lets a process that runs for a second save more than once.
var demoPace = []string{"--save-interval", "250ms"}

func newDemoCommand(w world) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Kill a pipeline again and again, and count what is lost",
		Long: "Demo writes orders to a new database (inserts, updates and deletes), streams them to files, and\n" +
			"kills the pipeline's process with SIGKILL several times. Then it compares what was written with\n" +
			"what is in the finished files. It takes a few seconds.\n\n" +
			"The server is rigatoni mongotest, in a process of its own, so nothing needs to be installed.\n" +
			"With --mongod it is a real one, a mongod from PATH or the one that \"make demo\" has fetched;\n" +
			"with --source it is yours. The exit code is 1 if a change was lost or is there twice.\n\n" +
			"With --snapshot there are documents before the pipeline starts, which it copies while they are\n" +
			"changed; it is killed while it copies.",
		Example: "  rigatoni demo\n  rigatoni demo --snapshot\n  rigatoni demo --mongod\n  rigatoni demo --source 'mongodb://localhost:27017/?replicaSet=rs0' --keep",
		Args:    noArguments,
	}
	cmd.Flags().StringVar(&f.source, "source", "", "`URL` of a MongoDB replica set to write to (default: mongotest)")
	cmd.Flags().BoolVar(&f.mongod, "mongod", false, "start a real MongoDB server instead of mongotest")
	cmd.Flags().StringVar(&f.store, "store", "", "`URL` of the store of the checkpoint (default: file: in a temporary directory)")
	cmd.Flags().BoolVar(&f.snapshot, "snapshot", false, "copy documents that are there already, while they are changed")
	cmd.Flags().IntVar(&f.documents, "documents", demoDocuments, "with --snapshot, the number of documents that are there")
	cmd.Flags().IntVar(&f.events, "events", 3000, "the number of changes to write")
	cmd.Flags().IntVar(&f.kills, "kills", 5, "the number of kills")
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "the `number` that decides what to write and when to kill (default: random)")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the files, and the database on the server of --source")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd.Flags().Changed("documents")); err != nil {
			return err
		}
		if !cmd.Flags().Changed("seed") {
			f.seed = newSeed()
		}
		scrub := config.NewScrubber(f.source, f.store)
		d := &demo{flags: f, w: w, screen: newConsole(scrubWriter{scrub, w.stdout}, w.stdoutTerminal && !w.dumb())}
		d.style = newStyle(w, w.stdoutTerminal)
		if err := d.run(cmd.Context()); err != nil {
			d.screen.clear()
			return ending(scrubbed{err, scrub})
		}
		return nil
	}
	return cmd
}

func (f *demoFlags) check(documents bool) error {
	var urls []config.Problem
	for name, text := range map[string]string{"source": f.source, "store": f.store} {
		if text == "" {
			continue
		}
		if err := config.Check(name, text); err != nil {
			urls = append(urls, config.Problem{Text: "--" + err.Error()})
		}
	}
	switch {
	case len(urls) > 0:
		return config.Problems(urls)
	case f.mongod && f.source != "":
		return errors.New("--mongod starts a server and --source names one that runs; give one of them")
	case strings.HasPrefix(f.store, "memory:"):
		return errors.New("--store memory: is lost when the process is killed; give file:DIR or redis://…")
	case f.events < 100 || f.events > 1_000_000:
		return fmt.Errorf("--events is %d; it must be from 100 to 1000000", f.events)
	case documents && !f.snapshot:
		return errors.New("--documents is the number of documents to copy, with --snapshot")
	case f.documents < 1000 || f.documents > 10_000_000:
		return fmt.Errorf("--documents is %d; it must be from 1000 to 10000000", f.documents)
	case f.kills < 0 || f.kills > 100:
		return fmt.Errorf("--kills is %d; it must be from 0 to 100", f.kills)
	}
	return nil
}

// newSeed returns one that is short enough to be typed.
func newSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint64(b[:]) % 1_000_000
}

// errLost is the error of a demo that found a fault.
var errLost = errors.New("the pipeline did not deliver exactly what was written; please report this bug, with the seed")

// A demo is one run of the demonstration.
type demo struct {
	flags  demoFlags
	w      world
	screen *console
	style  style

	dir      string // holds the files
	uri      string // the server's, given or not
	database string
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.screen, format, args...) }

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "rigatoni-demo-"); err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, errLost) {
			d.printf("\n  The files are kept for the report: %s\n", d.dir)
		} else if !d.flags.keep {
			err = errors.Join(err, os.RemoveAll(d.dir))
		}
	}()
	if d.flags.store == "" {
		d.flags.store = "file:" + filepath.ToSlash(filepath.Join(d.dir, "state"))
	}
	d.database = fmt.Sprintf("rigatoni_demo_%d_%d", d.flags.seed, time.Now().Unix())
	d.printf("%s  seed %d\n\n", d.style.bold("rigatoni demo"), d.flags.seed)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := d.startServer(ctx, cancel)
	if err != nil {
		return because(ctx, err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	return because(ctx, d.show(ctx))
}

// because returns why ctx has ended, which is then the reason for err.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// show runs the pipeline, kills it, and prints the result.
func (d *demo) show(ctx context.Context) (err error) {
	store, err := backend.OpenStore(ctx, d.flags.store, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close(store)) }()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to run it as the pipeline: %w", err)
	}
	if d.flags.snapshot {
		return d.showSnapshot(ctx, store, self)
	}
	out := filepath.Join(d.dir, "out")
	d.printf("  writing   %s changes to %s.orders: inserts, updates, deletes\n", grouped(d.flags.events), d.database)
	d.printf("  pipeline  %s run --database %s --collections orders \\\n", d.self(), d.database)
	d.printf("              --store %s --to ndjson:%s %s\n", config.Redact(d.flags.store), out, strings.Join(demoPace, " "))
	d.printf("            killed with SIGKILL %d times at random moments, and started again\n\n", d.flags.kills)
	view := newProcessesView(d.style, d.flags.events)
	d.printf("%s", view.header())
	res, err := crashtest.Run(ctx, crashtest.Config{
		Source: d.uri, Database: d.database, Collections: []string{"orders"},
		Changes: d.flags.events, Mix: crashtest.Mix{Inserts: 50, Updates: 35, Deletes: 15}, Seed: d.flags.seed,
		Rate: min(demoMaxRate, max(demoMinRate, d.flags.events/demoTime)), Kills: d.flags.kills,
		Binary: self, StoreURL: d.flags.store, Store: store, Out: out,
		// A lease in Redis outlives a killed process: the next one waits for its end.
		Flags: append([]string{"--lease-ttl", "1s"}, demoPace...),
		Watch: func(p crashtest.Progress) { view.update(d.screen, p) },
	})
	if err != nil {
		return err
	}
	return d.conclude(ctx, store, res)
}

func (d *demo) summary(r *crashtest.Result) {
	row := func(name string, n int, note string) {
		d.printf("  %-10s%9s   %s\n", name, grouped(n), note)
	}
	d.printf("\n")
	row("written", r.Progress.Written, fmt.Sprintf("%s inserts, %s updates, %s deletes, each acknowledged by the server",
		grouped(r.Inserts), grouped(r.Updates), grouped(r.Deletes)))
	if d.flags.snapshot {
		row("copied", r.Copied, "documents in finished files, each as it was at one moment")
		row("changes", r.Changes, "after that moment, in finished files, each document's in order")
		row("in copy", r.InCopy, "made before their document was copied: the copy has them")
	}
	row("again", r.Progress.Redelivered, "delivered before a kill without a checkpoint: cut off the file, and delivered again")
	if !d.flags.snapshot {
		row("finished", r.Progress.Finished, "different changes in finished files, compared one by one, each document's in order")
	}
	row("twice", r.Progress.Twice, "nothing is in finished files more than once")
	verdict := d.style.good("nothing was lost")
	if r.Lost > 0 {
		verdict = d.style.bad("these are lost")
	}
	row("lost", r.Lost, verdict)
	if r.FaultCount > 0 {
		d.printf("\n  %s\n", d.style.bad(fmt.Sprintf("%d faults:", r.FaultCount)))
		for _, f := range r.Faults {
			d.printf("    %s\n", f)
		}
	}
}

// self is the name by which the user called this program.
func (d *demo) self() string {
	exe, err := os.Executable()
	if err == nil && strings.Contains(exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/rigatoni"
	}
	if strings.ContainsRune(os.Args[0], filepath.Separator) {
		return os.Args[0]
	}
	return "rigatoni"
}

// next prints commands to try.
func (d *demo) next() {
	var commands [][2]string
	if d.flags.keep {
		if files, _ := filepath.Glob(filepath.Join(d.dir, "out", "*.ndjson")); len(files) > 0 {
			commands = append(commands, [2]string{"head -n 2 " + files[len(files)-1], "what arrived"})
		}
	}
	if d.flags.keep && d.flags.source != "" {
		commands = append(commands, [2]string{
			fmt.Sprintf("%s run --source '%s' --database %s --collections orders --store %s --to ndjson:%s", d.self(), config.Redact(d.flags.source), d.database, config.Redact(d.flags.store), filepath.Join(d.dir, "out")),
			"resumes where this one stopped",
		})
	}
	again := fmt.Sprintf("%s demo --seed %d", d.self(), d.flags.seed)
	if d.flags.snapshot {
		again += " --snapshot"
	}
	switch {
	case d.flags.source != "":
		again += " --source '" + config.Redact(d.flags.source) + "'"
	case d.flags.mongod:
		again += " --mongod"
	default:
		commands = append(commands,
			[2]string{again + " --mongod", "the same on a real MongoDB server: a mongod from PATH, or the one that \"make demo\" fetches"},
			[2]string{again + " --source 'mongodb://localhost:27017/?replicaSet=rs0'", "the same on your replica set"},
		)
	}
	if !d.flags.keep {
		commands = append(commands, [2]string{again + " --keep", "the same, and keep the files"})
	}
	if !d.flags.snapshot {
		commands = append(commands, [2]string{d.self() + " demo --snapshot", "documents that are there already are copied, while they are changed"})
	}
	commands = append(commands,
		[2]string{d.self() + " demo --kills 20 --events 20000", "more of everything"},
		[2]string{d.self() + " run --help", "your own pipeline"},
	)
	d.printf("\n  %s\n", d.style.bold("To try next"))
	for _, c := range commands {
		d.printf("    %s\n        %s\n", c[0], d.style.dim(c[1]))
	}
	if d.flags.keep {
		d.printf("\n  The files are in %s\n", d.dir)
	}
}

// columns writes names and values below one another.
func columns(w io.Writer, rows [][2]string) {
	for _, r := range rows {
		fmt.Fprintf(w, "    %-14s%s\n", r[0], r[1])
	}
}
