package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/checkpoints"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func newCheckpointCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "See, judge and move the checkpoints of pipelines",
		Long: "Checkpoint shows where pipelines are, and moves them. It takes the pipeline's file, or flags of the\n" +
			"same names: --store for the store, or --to for a destination that keeps its checkpoints itself,\n" +
			"--source to ask the server, --name for the pipeline.\n\n" +
			"set, clear and import say what they would do, and do it only with --execute, never while a\n" +
			"pipeline has the lease. Events that they skip are a gap on record in the checkpoint.",
		Example: "  rigatoni checkpoint list --store file:./state\n" +
			"  rigatoni checkpoint show pipeline.yaml\n" +
			"  rigatoni checkpoint set pipeline.yaml --by -1h",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCheckpointList(w), newCheckpointShow(w), newCheckpointVerify(w), newCheckpointExport(w),
		newCheckpointSet(w), newCheckpointClear(w), newCheckpointImport(w))
	return cmd
}

// watchFields are the options that say which stream a pipeline reads. The commands
// take them, and where it is read and kept.
var (
	watchFields      = []string{"database", "collections", "one-each", "operations", "pipeline", "expanded-events"}
	checkpointFields = append([]string{"store", "to", "source", "name"}, watchFields...)
)

// checkpointFlags are the flags of each command.
type checkpointFlags struct {
	stream string
	json   bool
	need   []string // options that must be there

	create     bool // a store that is a directory is made where it isn't there
	emptyIfNew bool // or taken for one that has nothing
}

func (f *checkpointFlags) add(cmd *cobra.Command) {
	for _, name := range checkpointFields {
		field, ok := config.ByName(name)
		if !ok {
			panic("no option " + name)
		}
		flag := cmd.Flags().VarPF(&flagText{kind: field.Option.Arg}, name, "", config.Describe(field.Option))
		if field.Option.Switch {
			flag.NoOptDefVal = "true"
		}
	}
	cmd.Flags().String("config", "", "the pipeline `FILE`, instead of the argument")
	cmd.Flags().StringVar(&f.stream, "stream", "", "the `STREAM`, where the pipeline has one for each collection; by default all")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, as docs/checkpoint.md documents it")
}

// A checkpointSession is one run of a command: the settings, and what they open.
type checkpointSession struct {
	w      world
	flags  *checkpointFlags
	s      config.Settings
	log    *slog.Logger
	scrub  config.Scrubber
	out    io.Writer
	dest   rigatoni.Destination // nil if it is not configured
	store  state.Store
	server *checkpoints.Server // nil if there is no source

	configured bool // which stream to watch is known
	exported   *checkpoints.Export
}

// checkpointRun runs do with what the flags open.
func checkpointRun(cmd *cobra.Command, w world, f *checkpointFlags, args []string, do func(context.Context, *checkpointSession) error) error {
	s, file, err := readNeeded(cmd.Context(), w, f.need, args, cmd.Flags())
	if err != nil {
		return ending(err)
	}
	watching := file != "" || slices.ContainsFunc(watchFields, s.Given)
	scrub := s.Scrubber()
	x := &checkpointSession{w: w, flags: f, s: s, scrub: scrub, out: scrubWriter{scrub, w.stdout}, configured: watching}
	x.log = newLogger(w.stderr, logFormat{level: "warn", format: s.Messages.LogFormat, terminal: w.terminal, style: newStyle(w, w.terminal), scrub: scrub})
	if err := x.run(cmd.Context(), do); err != nil {
		return checkpointError{ending(scrubbed{err, scrub})}
	}
	return nil
}

// checkpointError is an error of a command about checkpoints, for which the advice
// that helps a pipeline is none.
type checkpointError struct{ error }

func (e checkpointError) Unwrap() error { return e.error }

// code is the exit code.
func (e checkpointError) code() int {
	is := func(target error) bool { return errors.Is(e.error, target) }
	switch {
	case is(checkpoints.ErrNone), is(checkpoints.ErrRefused), is(checkpoints.ErrNoToken):
		return exitDecision
	case is(checkpoints.ErrUnknownStream):
		return exitUsage
	case is(checkpoints.ErrMoved):
		return exitHeld
	}
	code, _ := judge(e.error)
	return code
}

func (x *checkpointSession) run(ctx context.Context, do func(context.Context, *checkpointSession) error) (err error) {
	closeStore, err := x.openStore(ctx)
	defer func() {
		if cerr := closeStore(); cerr != nil && err == nil {
			err = fmt.Errorf("closing the store: %w", cerr)
		}
	}()
	if err != nil {
		return err
	}
	if x.s.Server.Source != "" {
		var watch *changestream.Options
		if x.configured {
			watch = &x.s.Watch
		}
		if x.server, err = checkpoints.Connect(ctx, x.s.Server.Source, watch, x.log); err != nil {
			return x.s.Explain(err)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = x.server.Close(ctx) // the process ends
		}()
	}
	return do(ctx, x)
}

// openStore opens the store of the checkpoints: that of the destination, if it keeps
// them itself. The caller calls closeStore, also after an error.
func (x *checkpointSession) openStore(ctx context.Context) (closeStore func() error, err error) {
	closeStore = func() error { return nil }
	if x.s.Output.To.Ref.Kind != nil {
		if x.dest, err = x.openDestination(ctx); err != nil {
			return closeStore, err
		}
		closeStore = func() error { return backend.Close(x.dest) }
		if keeper, ok := rigatoni.As[rigatoni.Checkpointer](x.dest); ok {
			x.store = keeper.Checkpoints()
			return closeStore, nil
		}
	}
	if x.store, err = x.openOwnStore(ctx); err != nil {
		return closeStore, err
	}
	return func() error { return state.Close(x.store) }, nil
}

// openDestination opens the destination: as it is, unless a checkpoint is to be saved.
func (x *checkpointSession) openDestination(ctx context.Context) (dest rigatoni.Destination, err error) {
	to := x.s.Output.To
	if x.flags.create && to.Ref.Kind.Checkpoints {
		dest, err = to.Open(ctx, io.Discard, x.log)
	} else {
		dest, _, err = to.OpenToRead(ctx, x.log)
	}
	if err != nil {
		return nil, destinationError(x.s, err)
	}
	return dest, nil
}

// openOwnStore opens a store that is no destination's.
func (x *checkpointSession) openOwnStore(ctx context.Context) (state.Store, error) {
	if o, ok := x.s.Checkpoints.Store.Ref.Options.(*filestore.Options); ok {
		o.MustExist = !x.flags.create // a look, or a dry run, leaves no directory behind
	}
	open := x.s.Checkpoints.Store.Open
	if !x.flags.create && x.s.Checkpoints.Store.Ref.Dir() == "" {
		open = func(ctx context.Context, log *slog.Logger) (state.Store, error) { // nor a table
			store, _, err := x.s.Checkpoints.Store.OpenToRead(ctx, log)
			return store, err
		}
	}
	store, err := open(ctx, x.log)
	if x.flags.emptyIfNew && errors.Is(err, fs.ErrNotExist) {
		return memstore.New(), nil
	}
	if err != nil {
		return nil, err
	}
	if v, ok := state.As[state.Volatile](store); ok && v.Volatile() {
		return nil, usageError{errors.Join(fmt.Errorf("the store %s is in the memory of the process that uses it; there is nothing for another process to see", x.s.Checkpoints.Store), state.Close(store))}
	}
	return store, nil
}

// keys are the keys to work on: those of the pipeline's streams or, where the streams
// are unknown, those that the store has under its name.
func (x *checkpointSession) keys(ctx context.Context) ([]checkpoints.Key, error) {
	name := x.s.Pipeline.Name
	if name == "" {
		return nil, usageError{errors.New("--name is missing: the pipeline's name, under which its checkpoint is kept; checkpoint list shows all")}
	}
	if x.flags.stream != "" {
		return []checkpoints.Key{{Name: name, Stream: x.flags.stream, Configured: x.configured}}, nil
	}
	var keys []checkpoints.Key
	switch {
	case x.configured && x.s.Watch.OneEach:
		for _, c := range x.s.Watch.Collections {
			keys = append(keys, checkpoints.Key{Name: name, Stream: c, Configured: true})
		}
		return keys, nil
	case x.configured:
		return []checkpoints.Key{{Name: name, Configured: true}}, nil
	}
	keys, err := checkpoints.Find(ctx, x.store, name)
	if len(keys) == 0 {
		keys = []checkpoints.Key{{Name: name}}
	}
	return keys, err
}

// print prints a value as JSON, or as text.
func (x *checkpointSession) print(v any, text func(io.Writer)) error {
	var b bytes.Buffer
	if x.flags.json {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	_, err := x.out.Write(b.Bytes())
	return err
}

func newCheckpointList(w world) *cobra.Command {
	f := &checkpointFlags{need: []string{"store"}}
	cmd := &cobra.Command{
		Use:   "list [pipeline.yaml]",
		Short: "List the checkpoints of a store: position, age, lag, runway, owner, gaps",
		Args:  oneFile,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return checkpointRun(cmd, w, f, args, func(ctx context.Context, x *checkpointSession) error {
			r, err := checkpoints.List(ctx, x.store, x.server, "")
			if err != nil {
				return err
			}
			return x.print(r, r.Table)
		})
	}
	return cmd
}

func newCheckpointShow(w world) *cobra.Command {
	return newCheckpointReport(w, "show", "Show all that is known of a pipeline's checkpoint", []string{"store"}, func(checkpoints.Report) error { return nil })
}

func newCheckpointVerify(w world) *cobra.Command {
	return newCheckpointReport(w, "verify", "Try whether the server would open the stream at the checkpoint, and deliver nothing", []string{"store", "source"}, checkpoints.Report.Err)
}

func newCheckpointReport(w world, name, short string, need []string, judge func(checkpoints.Report) error) *cobra.Command {
	f := &checkpointFlags{need: need}
	cmd := &cobra.Command{Use: name + " [pipeline.yaml]", Short: short, Args: oneFile}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return checkpointRun(cmd, w, f, args, func(ctx context.Context, x *checkpointSession) error {
			keys, err := x.keys(ctx)
			if err != nil {
				return err
			}
			r, err := checkpoints.Show(ctx, x.store, x.server, keys)
			if err != nil {
				return err
			}
			return errors.Join(x.print(r, r.Sheets), judge(r))
		})
	}
	return cmd
}

func newCheckpointExport(w world) *cobra.Command {
	f := &checkpointFlags{need: []string{"store"}}
	cmd := &cobra.Command{
		Use:   "export [pipeline.yaml]",
		Short: "Print a pipeline's checkpoints as JSON, for import into another store",
		Long:  "Export prints a pipeline's checkpoints as JSON. It holds resume tokens, and they the _id of a document.",
		Args:  oneFile,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.json = true
		return checkpointRun(cmd, w, f, args, func(ctx context.Context, x *checkpointSession) error {
			keys, err := x.keys(ctx)
			if err != nil {
				return err
			}
			doc, err := checkpoints.ExportKeys(ctx, x.store, keys)
			if err != nil {
				return err
			}
			return x.print(doc, nil)
		})
	}
	return cmd
}
