package main

import (
	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

func newSchemaCommand(w world) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the pipeline file, for editors",
		Long: "Schema prints the JSON schema of this version's pipeline files. An editor with YAML support\n" +
			"completes and checks a file that begins with\n\n" +
			"  # yaml-language-server: $schema=pipeline.schema.json",
		Example: "  rigatoni schema > pipeline.schema.json",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := w.stdout.Write(config.Schema())
			return ending(err)
		},
	}
}
