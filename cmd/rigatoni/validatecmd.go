package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newValidateCommand(w world) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [pipeline.yaml]",
		Short: "Check a pipeline's configuration, without connecting",
		Long: "Validate reads the configuration as run does, with the same flags, and names every mistake\n" +
			"by file and line. It connects to nothing and writes nothing. Exit code 0 means that the\n" +
			"configuration is valid, and 2 that it is not.\n\n" + settingsHelp + "\n\nThe flags are those of run: see rigatoni run --help.",
		Example: "  rigatoni validate pipeline.yaml",
	}
	takeSettings(cmd)
	cmd.SetUsageFunc(func(*cobra.Command) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, file, err := readSettings(cmd.Context(), w, args, cmd.Flags())
		if err != nil {
			return ending(err)
		}
		for _, name := range s.Ignored {
			fmt.Fprintf(w.stderr, "rigatoni: the environment variable %s is no setting and is ignored\n", name)
		}
		_, err = fmt.Fprintf(w.stdout, "%s: valid\n", fileName(file))
		return ending(err)
	}
	return cmd
}
