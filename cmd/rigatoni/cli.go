package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/suggest"
)

// world is the environment that the command runs in.
type world struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	environ        []string
	terminal       bool // standard error is one
	stdoutTerminal bool
	messages       *messages
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// runError is any other failure of a command.
type runError struct{ error }

func (e runError) Unwrap() error { return e.error }

// run is the whole program. It returns the exit code.
func run(ctx context.Context, w world) int {
	if w.messages == nil {
		w.messages = newMessages(w)
	}
	root := newRoot(w)
	root.SetArgs(w.args)
	root.SetOut(w.stdout)
	root.SetErr(w.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !errors.As(err, new(runError)) {
		err = usageError{err} // cobra's own: an unknown command, flag, or argument
	}
	code, next := judge(err)
	w.messages.failed(err, code, append(choices(err), next)...)
	return code
}

func newRoot(w world) *cobra.Command {
	version := false
	root := &cobra.Command{
		Use:   "rigatoni",
		Short: "Run change data capture (CDC) pipelines from MongoDB change streams",
		Long: "rigatoni reads a MongoDB change stream, delivers its events, and saves checkpoints:\n" +
			"after a crash of any kind the next run resumes from the last one.\n\n" + exitCodesHelp(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return ending(printVersion(w))
			}
			return cmd.Help()
		},
	}
	// Not cobra's own --version, whose template would have the linker keep every method of
	// every type: 14 MB.
	root.Flags().BoolVar(&version, "version", false, "print the version")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err, "") })
	root.AddCommand(newRunCommand(w), newCheckCommand(w), newValidateCommand(w), newCheckpointCommand(w), newDemoCommand(w), newMongotestCommand(w), newSchemaCommand(w), newManCommand(), newVersionCommand(w))
	return root
}

// flagError is what is wrong with a flag, and what was meant. Of -source=URL, which
// is six flags of one letter to the library, it repeats nothing: the URL may have a
// password.
func flagError(cmd *cobra.Command, err error, meant string) error {
	unknown := (*pflag.NotExistError)(nil)
	switch {
	case errors.As(err, &unknown) && len(unknown.GetSpecifiedShortnames()) > 1:
		return fmt.Errorf("flags begin with two dashes, --name; see %s --help", cmd.CommandPath())
	case meant != "":
		return fmt.Errorf("%w; %s", err, meant)
	}
	return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
}

// unknownCommand says which commands there are. It quotes the argument only where
// it can't be a URL with a password.
func unknownCommand(root *cobra.Command, arg string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if strings.ContainsAny(arg, ":@") {
		return fmt.Errorf("a command comes first; there are %s", strings.Join(names, ", "))
	}
	return fmt.Errorf("there is no command %q; %s", arg, suggest.Name(arg, append(names, "help")))
}

// noArguments is for commands that take flags only. It doesn't quote the
// argument, which may be a URL with a password.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes flags only, and got an argument; see %s --help", cmd.Name(), cmd.CommandPath())
}

// ending wraps what a command returns: a mistake in the configuration is a
// usageError, anything else a runError.
func ending(err error) error {
	if err == nil {
		return nil
	}
	if config.IsMistake(err) {
		return usageError{err}
	}
	return runError{err}
}
