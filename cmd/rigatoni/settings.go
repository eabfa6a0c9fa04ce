package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// settingsHelp is how to configure a pipeline.
const settingsHelp = "The configuration is a file, variables of the environment, and flags: flags override variables,\n" +
	"and those the file. The file is the argument, --config FILE or RIGATONI_CONFIG; - is standard\n" +
	"input. A field of the file has the name of its flag, and so has the variable:\n" +
	"RIGATONI_SAVE_INTERVAL is --save-interval. For limits that can be switched off, the value is off.\n\n" +
	"In the file ${NAME} is a variable of the environment, ${NAME:-default} one that may be missing,\n" +
	"${file:/run/secrets/x} the contents of a file, and $$ a dollar sign; a password in a URL is\n" +
	"${urlencode:NAME}. The variable RIGATONI_SOURCE_FILE, and so on, names a file that has the value.\n" +
	"Everyone on the machine sees passwords in flags, with ps: write them into a file."

// takeSettings makes a command take a pipeline file, and a flag for each option.
func takeSettings(cmd *cobra.Command) {
	cmd.Args = oneFile
	cmd.Flags().String("config", "", "the pipeline file, instead of the argument")
	for _, o := range config.Fields {
		f := cmd.Flags().VarPF(&flagText{kind: o.Option.Arg}, o.Option.Name, "", o.Option.Help)
		if o.Option.Switch {
			f.NoOptDefVal = "true"
		}
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		unknown := (*pflag.NotExistError)(nil)
		if errors.As(err, &unknown) && len(unknown.GetSpecifiedName()) > 1 {
			return flagError(cmd, err, config.MeantFlag(unknown.GetSpecifiedName()))
		}
		return flagError(cmd, err, "")
	})
}

// oneFile refuses several arguments. It doesn't quote them: one may be a URL with a
// password.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return nil
	}
	return fmt.Errorf("%s takes one argument, the pipeline file, and got %d; everything else is a flag: see %s --help", cmd.Name(), len(args), cmd.CommandPath())
}

// flagText is a flag whose texts, one for each time that it was given, are parsed
// later, together with the file.
type flagText struct {
	texts []string
	kind  string
}

func (f *flagText) String() string        { return strings.Join(f.texts, ",") }
func (f *flagText) Set(text string) error { f.texts = append(f.texts, text); return nil }
func (f *flagText) Type() string          { return f.kind }

// readSettings reads the settings of a command, and what messages call the file.
func readSettings(ctx context.Context, w world, args []string, flags *pflag.FlagSet) (config.Settings, string, error) {
	return readNeeded(ctx, w, nil, args, flags)
}

// readNeeded is readSettings for a command that needs some of a pipeline's settings
// only.
func readNeeded(ctx context.Context, w world, need, args []string, flags *pflag.FlagSet) (config.Settings, string, error) {
	file, err := pipelineFile(w, args, flags)
	if err != nil {
		return config.Settings{}, "", usageError{err}
	}
	in := config.Input{File: file, Need: need, Stdin: w.stdin, Env: w.env, Environ: w.environ, Flags: map[string][]string{}}
	flags.Visit(func(f *pflag.Flag) {
		if t, ok := f.Value.(*flagText); ok {
			in.Flags[f.Name] = t.texts
		}
	})
	s, err := interruptible(ctx, func() (config.Settings, error) { return config.Read(in) }) // standard input may not come
	w.messages.configured(&s)
	return s, file, err
}

// pipelineFile is the file that the argument names, or --config, or the environment;
// "" for none.
func pipelineFile(w world, args []string, flags *pflag.FlagSet) (string, error) {
	flag := flags.Lookup("config")
	var inEnv string
	set := false
	if w.env != nil {
		inEnv, set = w.env(config.FileVariable)
	}
	switch {
	case len(args) > 0 && flag.Changed:
		return "", errors.New("the pipeline file is given twice, as an argument and with --config")
	case len(args) > 0 && (args[0] == "true" || args[0] == "false"):
		return "", fmt.Errorf("the argument %q would be the pipeline file; a switch takes its value after =, as --one-each=%s", args[0], args[0])
	case len(args) > 0 && args[0] == "", flag.Changed && flag.Value.String() == "":
		return "", errors.New("the name of the pipeline file is empty")
	case len(args) > 0:
		return args[0], nil
	case flag.Changed:
		return flag.Value.String(), nil
	case set && inEnv == "":
		return "", errors.New(config.FileVariable + " is empty; unset it, or name the pipeline file")
	}
	return inEnv, nil
}

// fileName is what messages call the pipeline file.
func fileName(file string) string {
	switch file {
	case "-":
		return "standard input"
	case "":
		return "flags and environment"
	}
	return config.Redact(file)
}
