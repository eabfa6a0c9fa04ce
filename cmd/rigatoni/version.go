package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(w world) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return ending(printVersion(w))
		},
	}
}

func printVersion(w world) error {
	_, err := fmt.Fprintln(w.stdout, versionLine(buildInfo()))
	return err
}

func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}

// versionLine is "rigatoni v1.2.3 (commit 1a2b3c4d5e6f, go1.26.0, linux/amd64)".
func versionLine(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version, commit := cmp.Or(info.Main.Version, "(devel)"), ""
	if rev := settings["vcs.revision"]; rev != "" {
		commit = "commit " + rev[:min(12, len(rev))]
		if settings["vcs.modified"] == "true" {
			commit += " with changes"
		}
		commit += ", "
	}
	return fmt.Sprintf("rigatoni %s (%s%s, %s/%s)", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
