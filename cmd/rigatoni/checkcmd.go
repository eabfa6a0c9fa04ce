package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/internal/writable"
	"github.com/rigatoni-etl/rigatoni/state"
)

func newCheckCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [pipeline.yaml]",
		Short: "Say what a start would do now: configuration, connections, rights, checkpoint",
		Long: "Check reads the configuration as run does, with the same flags, connects to server and store,\n" +
			"and says which rights there are, where each stream would resume, and how far behind that is, or\n" +
			"why a start would be refused. It delivers nothing, writes nothing and takes no lease: it may run\n" +
			"beside the pipeline, whose lease is then what a start would wait for. The exit code is that of\n" +
			"run. Rights that are of use and not needed don't count.\n\n" +
			"With --running it asks the pipeline that runs whether it is ready, for the health checks of\n" +
			"containers: exit code 0, 1 with the reasons, or 5 if nobody answers at --http.\n\n" + settingsHelp + "\n\nThe flags are those of run, and the two below: see rigatoni run --help.",
		Example: "  rigatoni check pipeline.yaml",
	}
	takeSettings(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	running := cmd.Flags().Bool("running", false, "ask the pipeline that runs, by --http, whether it is ready")
	cmd.SetUsageFunc(func(*cobra.Command) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n"+
			"  --json     print a JSON object\n  --running  ask the pipeline that runs, by --http, whether it is ready\n\n%s\n",
			cmd.UseLine(), cmd.Example, exitCodesHelp())
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *running {
			s, _, err := readNeeded(cmd.Context(), w, []string{"http"}, args, cmd.Flags())
			if err != nil {
				return ending(err)
			}
			return ending(checkRunning(cmd.Context(), w.stdout, s.Monitoring.HTTP))
		}
		s, file, err := readSettings(cmd.Context(), w, args, cmd.Flags())
		if err != nil {
			return ending(err)
		}
		c := newChecker(w, s, file)
		err = c.run(cmd.Context())
		if werr := c.write(w.stdout, *asJSON); werr != nil {
			err = errors.Join(err, werr)
		}
		return ending(err)
	}
	return cmd
}

// checkTime is how long the server may take to answer.
const checkTime = 10 * time.Second

// A checker finds out what a start would do.
type checker struct {
	s      config.Settings
	w      world
	report checkReport
}

func newChecker(w world, s config.Settings, file string) *checker {
	c := &checker{s: s, w: w}
	c.report.Configuration = fileName(file) + ": valid"
	for _, name := range s.Ignored {
		c.report.Notes = append(c.report.Notes, "the environment variable "+name+" is no setting and is ignored")
	}
	return c
}

// run returns the first error that a start would have.
func (c *checker) run(ctx context.Context) error {
	log := newLogger(c.w.stderr, logFormat{level: "warn", format: c.s.Messages.LogFormat, terminal: c.w.terminal, style: newStyle(c.w, c.w.terminal), scrub: c.s.Scrubber()})
	dest, errOutput := c.destination(ctx, log)
	if errors.As(errOutput, new(usageError)) {
		return errOutput
	}
	if dest != nil {
		defer backend.Close(dest)
	}
	c.s.Watch.Logger = log
	source, err := changestream.Open(c.s.Server.Source, &c.s.Watch)
	switch {
	case errors.As(err, new(*net.DNSError)):
		return err
	case err != nil:
		return usageError{c.s.Explain(err)}
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = source.Close(ctx) // the process ends
	}()
	errOutput = errors.Join(errOutput, c.destinationRights(ctx, dest, source))
	errServer := c.server(ctx, source)
	store, errStore := c.store(ctx, log, dest)
	if store != nil {
		defer state.Close(store)
	}
	if errStore == nil && errServer == nil && dest != nil {
		p, err := rigatoni.New(pipelineConfig(c.s, source, dest, store, log))
		if err != nil {
			return usageError{c.s.Explain(err)}
		}
		return errors.Join(errOutput, c.start(p.CheckStart(ctx)))
	}
	return errors.Join(errOutput, errStore, errServer)
}

// server asks the server who the user is and what he may do.
func (c *checker) server(ctx context.Context, source *changestream.Source) error {
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	user, rights, err := source.Rights(limited)
	note := "answers; " + whoIs(user)
	if errors.Is(err, errors.ErrUnsupported) {
		note, err = "answers; it doesn't say which rights there are", nil
	}
	c.report.Server = partOf(config.Redact(c.s.Server.Source), note, err)
	if err == nil && user != "" && mayCopy(c.s.Pipeline) {
		var more []changestream.Right
		more, err = source.SnapshotRights(limited)
		rights = append(rights, more...)
	}
	for _, r := range rights {
		c.report.Rights = append(c.report.Rights, rightReport{Name: r.Name, For: r.For, Required: r.Required, Granted: r.Granted})
	}
	return err
}

// mayCopy reports whether a pipeline may copy what exists.
func mayCopy(c rigatoni.Config) bool {
	return copiesAtFirst(c) || slices.Contains(c.OnHistoryLost, "snapshot")
}

func copiesAtFirst(c rigatoni.Config) bool {
	return c.Snapshot == "initial" || c.Snapshot == "when-needed"
}

// destination opens the destination, or asks whether there could be files.
func (c *checker) destination(ctx context.Context, log *slog.Logger) (rigatoni.Destination, error) {
	to := c.s.Output.To
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	dest, note, err := to.OpenToRead(limited, log)
	errLetters := c.deadLetters()
	switch {
	case !to.Ref.Kind.Checkpoints && err != nil:
		return nil, usageError{err}
	case !to.Ref.Kind.Checkpoints:
		var p *partReport
		p, err = directory(to.String(), to.Ref.Dir())
		c.report.Destination = *p
	default:
		c.report.Destination = partOf(to.String(), note, err)
	}
	return dest, errors.Join(err, errLetters)
}

// destinationRights asks the destination what its user may do, and what a start makes.
// A right that is missing is the error of the start, which says what to do.
func (c *checker) destinationRights(ctx context.Context, dest rigatoni.Destination, source *changestream.Source) error {
	if dest == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var scopes []rigatoni.Scope
	for _, stream := range source.Streams() {
		scopes = append(scopes, source.Scope(stream))
	}
	i, ok, err := c.s.Output.To.Inspect(limited, dest, scopes)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		c.report.Destination.Note += "; it doesn't say which rights there are"
		return nil
	case err != nil:
		c.report.Destination = partOf(c.s.Output.To.String(), "", err)
		return err
	case !ok:
		return nil
	}
	c.report.Destination.Note += "; " + whoIs(i.User)
	c.report.DestinationGrant = i.Grant
	if len(i.Missing) > 0 {
		c.report.Destination.Note += "; a start makes " + listed(i.Missing)
	}
	for _, r := range i.Rights {
		c.report.DestinationRights = append(c.report.DestinationRights, rightReport{Name: r.Name, For: r.For, Required: r.Required, Granted: r.Granted})
	}
	return nil
}

func whoIs(user string) string {
	if user == "" {
		return "nobody has logged in"
	}
	return "the user is " + user
}

// listed lists names, at most ten of them.
func listed(names []string) string {
	const most = 10
	if len(names) > most {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// store opens the store, unless the destination keeps the checkpoints.
func (c *checker) store(ctx context.Context, log *slog.Logger, dest rigatoni.Destination) (state.Store, error) {
	name := c.s.Checkpoints.Store.String()
	switch {
	case c.s.Checkpoints.Store.Ref.Kind != nil:
		store, note, err := c.s.Checkpoints.Store.OpenToRead(ctx, log)
		c.report.Store = partOf(name, note, err)
		return store, err
	case dest == nil:
		c.report.Store = partReport{Name: name, Error: "unknown without it"}
	default:
		c.report.Store = partReport{Name: name, OK: true, Note: "in the transactions of its events"}
	}
	return nil, nil
}

// directory asks whether there could be files.
func directory(name, dir string) (*partReport, error) {
	if dir == "" {
		return &partReport{Name: name, OK: true}, nil
	}
	exists, err := writable.Dir(dir)
	note := ""
	if !exists {
		note = "the directory isn't there; a start makes it"
	}
	p := partOf(name, note, err)
	return &p, err
}

func (c *checker) deadLetters() (err error) {
	if dir := c.s.Output.DeadLetters; dir != "" {
		c.report.DeadLetters, err = directory(dir, dir)
	}
	return err
}

func (c *checker) start(all []rigatoni.StartCheck) error {
	var errs []error
	for _, one := range all {
		c.report.Start = append(c.report.Start, startOf(one, c.s, time.Now()))
		errs = append(errs, one.Err)
	}
	return errors.Join(errs...)
}

// write prints the report, without secrets and control characters.
func (c *checker) write(w io.Writer, asJSON bool) error {
	if !asJSON {
		_, err := io.WriteString(w, printable(c.s.Scrubber().Text(c.report.text())))
		return err
	}
	b, err := json.MarshalIndent(c.report, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, c.s.Scrubber().Text(string(b)))
	return err
}
