package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The exit codes are part of the command's interface.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitHeld        = 3
	exitDecision    = 4
	exitUnreachable = 5
	exitInterrupted = 130
)

// exitCodes describes them in the help.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "stopped cleanly by SIGINT or SIGTERM: everything read is delivered, the last checkpoint is saved"},
	{exitFailure, "any other failure; for demo: something was lost"},
	{exitUsage, "the command line or the pipeline file is wrong"},
	{exitHeld, "another process has the lease of this stream, or took it over"},
	{exitDecision, "requires manual intervention: the checkpoint is damaged, expired, lost, of a newer version or of another\n" +
		"       stream, the oplog no longer reaches back to it, output and checkpoint disagree, or an event was refused"},
	{exitUnreachable, "the MongoDB server or the store is unreachable, or refuses this user"},
	{exitInterrupted, "stopped at once by a second signal; for demo: interrupted"},
}

func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", c.code, c.meaning)
	}
	b.WriteString("\nA restart helps with 3 and 5, perhaps with 1, never with 2 and 4.")
	return b.String()
}

// advice is what to do next: words, and flags to add to the command line.
type advice struct{ text, flags string }

var elsewhere = advice{"if that can't be mended, to start from a time of your choice, under another name", "--name NAME --start TIME"}

// judge maps an error to its exit code, and to advice.
func judge(err error) (code int, a advice) {
	var (
		changed *rigatoni.ChangedStreamError
		output  *rigatoni.OutputError
		refused *rigatoni.RefusedError
		usage   usageError
		signal  stopSignal
	)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &usage):
		return exitUsage, advice{}
	case is(state.ErrLeaseExpired) && !is(state.ErrLeaseHeld):
		return exitUnreachable, advice{"nothing is lost: when the store answers, start again; events since the last checkpoint are redelivered", ""}
	case is(state.ErrLeaseHeld), is(state.ErrFenced):
		return exitHeld, advice{"to stand by until that process ends", "--lease-wait=1h"}
	case errors.As(err, &changed):
		return exitDecision, advice{"if the change is intended, once (otherwise undo it, or use another --name)", "--accept-changed-stream=" + changed.Accept}
	case is(rigatoni.ErrChangedStream):
		return exitDecision, advice{}
	case errors.As(err, new(*rigatoni.FirstStartError)), is(rigatoni.ErrOutputExists):
		return exitDecision, advice{} // see choices
	case errors.As(err, &output) && output.Accept != "":
		return exitDecision, advice{"to continue with this output, once", "--accept-output=" + output.Accept}
	case errors.As(err, &output):
		return exitDecision, advice{}
	case errors.As(err, &refused):
		return exitDecision, advice{"to write refused events to files and continue", "--dead-letters=DIR"}
	case is(rigatoni.ErrHistoryLost), is(rigatoni.ErrCheckpointLost), is(state.ErrCorrupt), is(state.ErrExpired):
		return exitDecision, elsewhere
	case is(state.ErrNewer):
		return exitDecision, advice{"run the version of rigatoni that wrote it, or a later one", ""}
	case is(state.ErrInvalid), is(syscall.ENOTDIR): // a file where a directory must be
		return exitUsage, advice{}
	case is(state.ErrUnavailable), is(state.ErrRefused), unreachable(err):
		return exitUnreachable, advice{}
	case is(rigatoni.ErrUndelivered), is(rigatoni.ErrUnsaved):
		return exitFailure, advice{"nothing is lost: the next start redelivers what is not covered by a checkpoint", ""}
	case errors.As(err, &signal):
		return exitInterrupted, advice{}
	}
	return exitFailure, advice{}
}

// format returns the advice with the whole command line.
func (a advice) format(args []string) string {
	switch {
	case a.text == "":
		return ""
	case a.flags == "" || len(args) == 0 || args[0] != "run":
		return "\n  " + a.text
	}
	line := "rigatoni"
	for _, arg := range without(args, a.flags) {
		line += " " + quoted(config.NewScrubber(arg).Text(arg))
	}
	return "\n  " + a.text + ":\n    " + line + " " + a.flags
}

// without returns the arguments without those that the flags replace.
func without(args []string, flags string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "--") || !slices.ContainsFunc(strings.Fields(flags), func(f string) bool {
			return f == name || strings.HasPrefix(f, name+"=")
		}) {
			kept = append(kept, args[i])
			continue
		}
		if f, ok := config.ByName(name[2:]); ok && !f.Option.Switch && !hasValue {
			i++ // its value
		}
	}
	return kept
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// quoted is an argument as a shell takes it.
func quoted(arg string) string {
	if plain.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// Codes by which a MongoDB server refuses a user: Unauthorized,
// AuthenticationFailed, and Atlas's own.
var refusals = []int{13, 18, 8000}

// unreachable reports whether a MongoDB server can't be reached, or refuses this
// user.
func unreachable(err error) bool {
	var server mongo.ServerError
	if errors.As(err, &server) {
		for _, code := range refusals {
			if server.HasErrorCode(code) {
				return true
			}
		}
	}
	return mongo.IsTimeout(err) || mongo.IsNetworkError(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, new(*net.OpError)) || errors.As(err, new(*net.DNSError))
}
