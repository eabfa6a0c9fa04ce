package main

import (
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// choices are what can be done about an error that leaves a choice.
func choices(err error) []advice {
	var first *rigatoni.FirstStartError
	if errors.As(err, &first) {
		return firstStartChoices(first)
	}
	var lost *rigatoni.LostError
	if errors.As(err, &lost) && lost.Accept != "" {
		return firstStartChoices(&rigatoni.FirstStartError{Key: lost.Key, Accept: lost.Accept, Found: []rigatoni.Finding{
			{Err: rigatoni.ErrCheckpointLost, Key: lost.Key, ClusterTime: lost.Checkpoint.ClusterTime},
		}})
	}
	var history *rigatoni.HistoryLostError
	if errors.As(err, &history) && history.SavedAt.IsZero() {
		return historyChoices(history)
	}
	var output *rigatoni.OutputError
	if errors.As(err, &output) && !output.Since.IsZero() {
		return []advice{{"to lose nothing, set the checkpoint back (a dry run; --execute does it), start again, and accept what that prints", "checkpoint set --to-time " + timestamp(output.Since)}}
	}
	return checkpointChoices(err)
}

// historyChoices are those where a start time is before the server's oldest event.
func historyChoices(e *rigatoni.HistoryLostError) []advice {
	if e.Oldest.IsZero() {
		return nil
	}
	return []advice{{"to begin at the oldest event that the server has", "--start " + timestamp(e.Oldest)}}
}

// formatAll returns each advice with the whole command line.
func formatAll(all []advice, args []string) string {
	var b strings.Builder
	for _, a := range all {
		b.WriteString(a.format(args))
	}
	return b.String()
}

// firstStartChoices are those where a first start is refused.
func firstStartChoices(e *rigatoni.FirstStartError) []advice {
	if e.Accept == "" {
		return []advice{{"if store and name are right and there never was a checkpoint, once, where TIME is now or where to begin", "--start TIME"}}
	}
	var all []advice
	accept := "--accept-first-start=" + e.Accept
	if name, ok := otherName(e); ok {
		all = append(all, advice{"to continue under the name that it had", "--name " + quoted(name)})
	}
	if since := e.Since(); !since.IsZero() {
		all = append(all, advice{"to begin, once, where that ends, which skips nothing", "--start " + timestamp(since) + " " + accept})
	}
	return append(all, advice{"to begin now, once; what was written before is skipped, or copied where snapshot says so", "--start now " + accept})
}

// otherName is the pipeline's name of the checkpoints that were found, if that is
// one, and all that differs.
func otherName(e *rigatoni.FirstStartError) (string, bool) {
	ours, stream, _ := strings.Cut(e.Key, "/")
	name := ""
	for _, f := range e.Found {
		other, of, _ := strings.Cut(f.Key, "/")
		if f.Key == "" || other == ours || of != stream || name != "" && other != name {
			return "", false
		}
		name = other
	}
	return name, name != ""
}

// timestamp is a cluster time as --start takes it.
func timestamp(t bson.Timestamp) string { return fmt.Sprintf("%d.%d", t.T, t.I) }
