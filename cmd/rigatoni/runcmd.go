package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

func newRunCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [pipeline.yaml]",
		Short: "Run a pipeline until it is stopped",
		Example: "  rigatoni run pipeline.yaml\n" +
			"  rigatoni run --source 'mongodb://localhost:27017' --database shop --collections orders,users \\\n" +
			"      --store file:./state --to ndjson:./out",
	}
	cmd.Long = "Run reads a change stream and delivers its events until SIGINT, SIGTERM or SIGHUP stops it.\n" +
		"The checkpoint is saved after delivery and never before: after a crash the next run resumes\n" +
		"from it, and nothing is lost.\n\n" + settingsHelp + "\n\n" +
		"TIME is now, a time such as 2026-11-23T00:46:00Z, or a cluster time (seconds.increment) such\n" +
		"as 1794000000.2, which log lines show as cluster_time; or none, to refuse to begin without a checkpoint."
	takeSettings(cmd)
	cmd.SetUsageFunc(func(*cobra.Command) error {
		_, err := fmt.Fprint(cmd.OutOrStdout(), runUsage(cmd))
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ending(runPipeline(cmd.Context(), w, args, cmd.Flags()))
	}
	return cmd
}

// runUsage is the help's second half: every option, by group, and those of the
// back ends.
func runUsage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	group := ""
	for _, f := range config.Fields {
		if f.Option.Group != group {
			group = f.Option.Group
			note := ""
			if f.Option.Once {
				note = " (flags only)"
			}
			fmt.Fprintf(&b, "\n%s%s:\n", group, note)
		}
		describe(&b, "  --", f.Option)
	}
	for _, f := range config.Fields {
		for _, k := range f.Kinds {
			describeKind(&b, f.Option.Name, k)
		}
	}
	b.WriteString("\n" + exitCodesHelp() + "\n")
	return b.String()
}

// helpColumn is where the help of an option begins.
const helpColumn = 38

func describe(b *strings.Builder, prefix string, o option.Option) {
	left := prefix + o.Name
	if !o.Switch {
		left += " " + o.Arg
	}
	fmt.Fprintf(b, "%-*s%s\n", helpColumn, left+" ", wrap(config.Describe(o), helpColumn, 110))
}

// describeKind lists the forms and options of a back end's URL.
func describeKind(b *strings.Builder, flag string, k *backend.Kind) {
	b.WriteByte('\n')
	for _, form := range k.Forms {
		left := "--" + flag + " " + form[0]
		if len(left) >= helpColumn {
			left += "\n" + strings.Repeat(" ", helpColumn)
		}
		fmt.Fprintf(b, "%-*s%s\n", helpColumn, left, wrap(form[1], helpColumn, 110))
	}
	for _, o := range option.Of(k.Options()) {
		describe(b, "  ", o)
	}
}

// wrap breaks text into lines that end before a column, indented to another.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func runPipeline(ctx context.Context, w world, args []string, flags *pflag.FlagSet) error {
	s, _, err := readSettings(ctx, w, args, flags)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// Events and a status line don't share a terminal.
	status := w.terminal && !w.dumb() && s.Messages.ProgressInterval >= 0 && !(w.stdoutTerminal && toStdout(s))
	screen := newConsole(w.stderr, status)
	defer screen.clear()
	return pump(ctx, w, s, screen)
}

// toStdout reports whether events go to standard output.
func toStdout(s config.Settings) bool { return s.Output.To.Ref.URL.Opaque == "-" }

// scrubWriter writes without secrets. One must be within one write.
type scrubWriter struct {
	scrub config.Scrubber
	w     io.Writer
}

func (w scrubWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.scrub.Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// scrubbed is an error without the secrets in its message.
type scrubbed struct {
	error
	scrub config.Scrubber
}

func (e scrubbed) Error() string { return e.scrub.Text(e.error.Error()) }
func (e scrubbed) Unwrap() error { return e.error }

// pump opens source, destination and store, and runs the pipeline.
func pump(ctx context.Context, w world, s config.Settings, screen *console) (err error) {
	log := newLogger(screen, logFormat{
		level: s.Messages.LogLevel, format: s.Messages.LogFormat, terminal: w.terminal, style: newStyle(w, w.terminal), scrub: s.Scrubber(),
	})
	for _, name := range s.Ignored {
		log.Warn("environment variable ignored; it is no setting", "name", name)
	}
	slog.SetDefault(log) // what libraries write with package log has the same format
	watched, err := startMonitoring(s, log)
	if err != nil {
		return err
	}
	defer watched.close()
	c, closeAll, err := open(ctx, w, s, log)
	defer func() {
		if cerr := closeAll(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err == nil {
		c.Hooks = watched.hooks(c.Hooks)
		err = drive(ctx, w, s, c, watched, screen, log)
	} else {
		log.Info("stopped before the pipeline began", "pipeline", s.Pipeline.Name, "reason", context.Cause(ctx))
		err = nil
	}
	return err
}

// drive runs a pipeline until it is stopped.
func drive(ctx context.Context, w world, s config.Settings, c rigatoni.Config, watched *monitoring, screen *console, log *slog.Logger) error {
	p, err := rigatoni.New(c)
	if err != nil {
		return usageError{s.Explain(err)}
	}
	if err := watched.watch(p); err != nil {
		return err
	}
	stop := report(ctx, p, s, screen, log)
	defer stop()
	done := make(chan struct{})
	defer close(done)
	go supervisorOf(w.env).attend(ctx, done, p, screen)
	announced := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(announced)
		log.Info("stopping", "pipeline", s.Pipeline.Name, "reason", context.Cause(ctx))
	})()
	log.Info("starting", "pipeline", s.Pipeline.Name, "source", config.Redact(s.Server.Source), "store", s.Checkpoints.Store.String(), "to", s.Output.To.String())
	if err := p.Run(ctx); err != nil {
		if refusedOption.MatchString(err.Error()) {
			return s.Explain(err)
		}
		return err
	}
	stop()
	if ctx.Err() != nil {
		<-announced
	}
	sum := total(p.Status())
	log.Info("stopped", "pipeline", s.Pipeline.Name, "reason", context.Cause(ctx), "events", sum.events, "saves", sum.saves)
	return nil
}

// refusedOption matches the error of a pipeline whose destination refuses an option,
// such as Concurrency.
var refusedOption = regexp.MustCompile(`: opening the destination: Config\.\w+ is `)

// deadLetters opens the dead letters in a directory; "" for none.
func deadLetters(dir string, log *slog.Logger) (rigatoni.DeadLetters, error) {
	if dir == "" {
		return nil, nil
	}
	letters, err := ndjson.OpenDeadLetters(dir, &ndjson.Options{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--dead-letters: %w", err)
	}
	return letters, nil
}

// pipelineConfig completes the configuration.
func pipelineConfig(s config.Settings, source rigatoni.Source, dest rigatoni.Destination, store state.Store, log *slog.Logger) rigatoni.Config {
	c := s.Pipeline
	c.Source, c.Destination, c.Store, c.Logger = source, dest, store, log
	c.FirstStart.Time, c.FirstStart.None = s.Checkpoints.Start.Time, s.Checkpoints.Start.None
	return c
}
