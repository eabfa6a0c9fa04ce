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

// The exit codes. They are part of what the command promises.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitHeld        = 3
	exitPlace       = 4
	exitUnreachable = 5
	exitInterrupted = 130
)

// exitCodes says what they mean, for the help.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "stopped cleanly (SIGINT, SIGTERM): all in hand delivered, the last checkpoint saved"},
	{exitFailure, "failed in another way; for demo: something was lost"},
	{exitUsage, "the command line or the pipeline file is wrong"},
	{exitHeld, "another process works on this stream, or took it over"},
	{exitPlace, "the place needs a person: the checkpoint is damaged, expired, lost, of a newer version or of another stream,\n" +
		"       the server's history no longer reaches back to it, or there is output or a checkpoint that nobody claims"},
	{exitUnreachable, "the MongoDB server or the store can't be reached, or refuses this user"},
	{exitInterrupted, "ended at once by a second signal, or interrupted before the end (demo)"},
}

func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", c.code, c.meaning)
	}
	b.WriteString("\nStarting again helps with 3 and 5, perhaps with 1, never with 2 and 4.")
	return b.String()
}

const elsewhere = "to go on from a time of your choice, start under another name: --name NAME --start TIME"

// judge is the one place where errors become exit codes, and advice.
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

// unreachable tells whether a MongoDB server can't be reached, or doesn't let
// this user do what it takes.
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
