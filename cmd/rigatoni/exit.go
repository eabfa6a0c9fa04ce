package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The exit codes are part of the command's interface.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitHeld        = 3
	exitPlace       = 4
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
	{exitPlace, "requires manual intervention: the checkpoint is damaged, expired, lost, of a newer version or of another\n" +
		"       stream, the oplog no longer reaches back to it, or output and checkpoint disagree"},
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

const elsewhere = "to go on from a time of your choice, start under another name: --name NAME --start TIME"

// judge maps an error to its exit code, and to advice: what to do next, as a
// command line where there is one.
func judge(err error) (code int, advice string) {
	var (
		changed *rigatoni.ChangedStreamError
		usage   usageError
		signal  stopSignal
	)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &usage):
		return exitUsage, ""
	case errors.As(err, &signal):
		return exitInterrupted, ""
	case is(state.ErrLeaseHeld), is(state.ErrFenced):
		return exitHeld, "to stand by until that process ends: --lease-wait 1h"
	case errors.As(err, &changed):
		return exitPlace, "if the change is meant, give --accept-changed-stream=" + changed.Accept + " once; otherwise undo it, or use another --name"
	case is(rigatoni.ErrChangedStream):
		return exitPlace, ""
	case is(rigatoni.ErrUnclaimed):
		return exitPlace, "if this is meant to be a new stream, add --accept-unclaimed once"
	case is(rigatoni.ErrOutputExists):
		return exitPlace, "move the output away, or accept it with --start now or --start TIME"
	case is(rigatoni.ErrHistoryLost), is(rigatoni.ErrCheckpointLost), is(state.ErrCorrupt), is(state.ErrExpired):
		return exitPlace, elsewhere
	case is(state.ErrNewer):
		return exitPlace, "run the version of rigatoni that wrote it, or a later one"
	case is(state.ErrInvalid):
		return exitUsage, ""
	case is(state.ErrUnavailable), is(state.ErrRefused), unreachable(err):
		return exitUnreachable, ""
	}
	return exitFailure, ""
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
