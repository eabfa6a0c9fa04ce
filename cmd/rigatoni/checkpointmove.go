package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/checkpoints"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// moveFlags are those of the commands that change checkpoints.
type moveFlags struct {
	checkpointFlags
	execute bool
}

func (f *moveFlags) add(cmd *cobra.Command) {
	f.checkpointFlags.add(cmd)
	cmd.Flags().BoolVar(&f.execute, "execute", false, "do it; without this flag it is a dry run")
}

// A move plans the change of one key.
type move func(context.Context, *checkpointSession, *checkpoints.Mover, checkpoints.Key) (*checkpoints.Change, error)

// moveKeys plans a change of each key, and makes it with --execute. All are planned
// before the first is made.
func moveKeys(ctx context.Context, x *checkpointSession, f *moveFlags, policy string, plan move) error {
	keys, err := x.keys(ctx)
	if err != nil {
		return err
	}
	m := &checkpoints.Mover{Store: x.store, Server: x.server, Log: x.log, Policy: policy, Destination: x.dest, Output: x.s.Output.To.String()}
	changes := []*checkpoints.Change{}
	for _, k := range keys {
		c, err := plan(ctx, x, m, k)
		if err != nil {
			return fmt.Errorf("%q: %w", k, err)
		}
		if c != nil {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return fmt.Errorf("%w: none of the streams has the collection; they are %q", checkpoints.ErrUnknownStream, keys)
	}
	var errs []error
	for _, c := range changes {
		if f.execute {
			if err := m.Execute(ctx, c); err != nil {
				c.Error = x.scrub.Text(err.Error())
				errs = append(errs, fmt.Errorf("%q: %w", c.Key, err))
			}
		}
	}
	errs = append(errs, x.print(map[string]any{"changes": changes}, func(w io.Writer) {
		for _, c := range changes {
			c.Text(w)
		}
		if !f.execute {
			fmt.Fprintf(w, "to do it:\n  %s --execute\n", commandLine(x.w.args))
		}
	}))
	return errors.Join(errs...)
}

// commandLine is the command line as a shell takes it, without secrets.
func commandLine(args []string) string {
	line := "rigatoni"
	for _, arg := range args {
		line += " " + quoted(config.NewScrubber(arg).Text(arg))
	}
	return line
}

// setTarget is where set is to go.
type setTarget struct {
	time, token, by string
	now, oldest     bool
	snapshot        []string // stays, and copies these collections
}

func newCheckpointSet(w world) *cobra.Command {
	f := &moveFlags{checkpointFlags: checkpointFlags{need: []string{"store", "source"}}}
	var to setTarget
	cmd := &cobra.Command{
		Use:   "set [pipeline.yaml]",
		Short: "Set a pipeline's checkpoint to another position",
		Long: "Set moves the checkpoint, or makes one where there is none. It asks the server whether it has all\n" +
			"events after the new position, and says what is redelivered or skipped. Without --execute nothing\n" +
			"is changed. With --snapshot the position stays, and the next start copies the collections again,\n" +
			"while the stream goes on.\n\n" +
			"TIME is a time such as 2026-11-23T00:46:00Z, or a cluster time (seconds.increment) such as\n" +
			"1794000000.2: the events of that time are the first to be delivered.",
		Args: oneFile,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&to.time, "to-time", "", "to the events of that `TIME`")
	cmd.Flags().StringVar(&to.token, "to-token", "", "to after the event with this resume `TOKEN`, as JSON or the digits of its _data; @FILE for a file's")
	cmd.Flags().BoolVar(&to.now, "to-now", false, "to now: what was written before is skipped")
	cmd.Flags().BoolVar(&to.oldest, "to-oldest", false, "to the oldest event that the server has")
	cmd.Flags().StringVar(&to.by, "by", "", "by a `DURATION`, back (-1h) or forward (30m)")
	cmd.Flags().StringArrayVar(&to.snapshot, "snapshot", nil, "copy a `COLLECTION` again at the next start; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		target, policy, err := to.parse()
		if err != nil {
			return ending(usageError{err})
		}
		f.create, f.emptyIfNew = f.execute, !f.execute
		return checkpointRun(cmd, w, &f.checkpointFlags, args, func(ctx context.Context, x *checkpointSession) error {
			return moveKeys(ctx, x, f, "checkpoint set "+policy, func(ctx context.Context, x *checkpointSession, m *checkpoints.Mover, k checkpoints.Key) (*checkpoints.Change, error) {
				if len(to.snapshot) > 0 {
					return to.copyAgain(ctx, m, k)
				}
				return m.Set(ctx, k, "set", target)
			})
		})
	}
	return cmd
}

// copyAgain plans the copies of a key: where there is a stream for each collection, of
// its own one. It returns nil if there is none.
func (to *setTarget) copyAgain(ctx context.Context, m *checkpoints.Mover, k checkpoints.Key) (*checkpoints.Change, error) {
	names := to.snapshot
	if k.Stream != "" {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name != k.Stream })
	}
	if len(names) == 0 {
		return nil, nil
	}
	return m.Snapshot(ctx, k, names)
}

// parse returns the target, and how it was given.
func (to setTarget) parse() (t checkpoints.Target, policy string, err error) {
	n := 0
	for _, given := range []bool{to.time != "", to.token != "", to.by != "", to.now, to.oldest, len(to.snapshot) > 0} {
		if given {
			n++
		}
	}
	if n != 1 {
		return t, "", errors.New("set takes exactly one of --to-time, --to-token, --to-now, --to-oldest, --by and --snapshot")
	}
	switch {
	case len(to.snapshot) > 0:
		return t, "--snapshot", nil
	case to.time != "":
		var at config.Start
		if err := at.UnmarshalText([]byte(to.time)); err != nil || at.Time.IsZero() {
			return t, "", fmt.Errorf("--to-time is %q; it must be a time such as 2026-11-23T00:46:00Z, or a cluster time (seconds.increment) such as 1794000000.2", to.time)
		}
		return checkpoints.Target{Time: at.Time}, "--to-time " + to.time, nil
	case to.by != "":
		d, err := time.ParseDuration(to.by)
		if err != nil || d.Truncate(time.Second) == 0 {
			return t, "", fmt.Errorf("--by is %q; it must be a duration of at least a second, such as -1h or 30m", to.by)
		}
		return checkpoints.Target{By: d}, "--by " + to.by, nil
	case to.token != "":
		t, err := givenToken(to.token, nil)
		return t, "--to-token", err
	case to.oldest:
		return checkpoints.Target{Oldest: true}, "--to-oldest", nil
	}
	return checkpoints.Target{Now: true}, "--to-now", nil
}

// givenToken is the target of a token on the command line: itself, @FILE, or - for
// standard input, where there is one.
func givenToken(arg string, stdin io.Reader) (checkpoints.Target, error) {
	text := []byte(arg)
	if path, ok := strings.CutPrefix(arg, "@"); ok || arg == "-" && stdin != nil {
		if !ok {
			path = arg
		}
		var err error
		if text, err = readAll(path, stdin); err != nil {
			return checkpoints.Target{}, err
		}
	}
	token, err := checkpoints.ParseToken(text)
	return checkpoints.TokenTarget(token), err
}

// readAll reads a file that a flag names, or standard input for -.
func readAll(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError{err}
	}
	return text, nil
}

func newCheckpointClear(w world) *cobra.Command {
	f := &moveFlags{checkpointFlags: checkpointFlags{need: []string{"store"}}}
	cmd := &cobra.Command{
		Use:   "clear [pipeline.yaml]",
		Short: "Remove a pipeline's checkpoint",
		Long:  "Clear removes the checkpoint, so that the next start is a first start. Without --execute nothing is\nchanged.",
		Args:  oneFile,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return checkpointRun(cmd, w, &f.checkpointFlags, args, func(ctx context.Context, x *checkpointSession) error {
			return moveKeys(ctx, x, f, "checkpoint clear", func(ctx context.Context, _ *checkpointSession, m *checkpoints.Mover, k checkpoints.Key) (*checkpoints.Change, error) {
				return m.Clear(ctx, k)
			})
		})
	}
	return cmd
}
