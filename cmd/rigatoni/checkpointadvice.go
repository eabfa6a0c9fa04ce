package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/state"
)

// checkpointChoices are what the commands about checkpoints can do about an error of
// a pipeline. Each is a dry run.
func checkpointChoices(err error) []advice {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, new(checkpointError)):
		return nil
	case is(rigatoni.ErrHistoryLost):
		return []advice{
			{"to see what is left, and then to continue there with the rest as a gap on record (a dry run; --execute does it)", "checkpoint set --to-oldest"},
			{"to resume at the checkpoint's time, if only its token is of no use (a dry run; --execute does it)", "checkpoint set --to-time TIME"},
		}
	case is(state.ErrExpired):
		return []advice{{"to set it to a time of your choice (a dry run; --execute does it)", "checkpoint set --to-time TIME"}}
	case is(state.ErrCorrupt):
		return []advice{{"to remove it, after which checkpoint set begins at a time (a dry run; --execute does it)", "checkpoint clear"}}
	}
	return nil
}

// checkpointLine is the command line of a command about checkpoints, for the arguments
// of a pipeline's.
func checkpointLine(args []string, command string) string {
	name, flags, _ := strings.Cut(command, " ")
	line := "rigatoni checkpoint " + name
	for i := 0; i < len(args); i++ {
		flag, _, hasValue := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		ours := !strings.HasPrefix(args[i], "--") || flag == "config" || slices.Contains(checkpointFields, flag)
		words := args[i : i+1]
		if f, ok := config.ByName(flag); strings.HasPrefix(args[i], "--") && !hasValue && (flag == "config" || ok && !f.Option.Switch) && i+1 < len(args) {
			i++
			words = args[i-1 : i+1]
		}
		if !ours {
			continue
		}
		for _, w := range words {
			line += " " + quoted(config.NewScrubber(w).Text(w))
		}
	}
	return strings.TrimSpace(line + " " + flags)
}
