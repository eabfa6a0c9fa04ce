package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
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
	exitRefused     = 6
	exitInterrupted = 130
)

// An exitCode is what the help and the README say of one.
type exitCode struct {
	code    int
	meaning string
	restart string // whether to start again: "", yes, no or perhaps
}

var exitCodes = []exitCode{
	{exitOK, "stopped by SIGINT, SIGTERM or SIGHUP: everything in hand is delivered, and the checkpoint is saved", ""},
	{exitFailure, "any other failure; for demo: something was lost", "perhaps"},
	{exitUsage, "the command line or the pipeline file is wrong", "no"},
	{exitHeld, "another process has the lease of this stream, or took it over", "yes"},
	{exitDecision, "requires manual intervention: the checkpoint is damaged, expired, lost, of a newer version or of another " +
		"stream, the oplog no longer reaches back to it, output and checkpoint disagree, or an event was refused or can't be read", "no"},
	{exitUnreachable, "the MongoDB server, the store or the destination is unreachable, or its disk is full", "yes"},
	{exitRefused, "refused, until something is changed there: a wrong password, a missing right, a certificate, a server that can't do " +
		"this (standalone, a view, a replica of Redis, a standby of PostgreSQL)", "no"},
	{exitInterrupted, "stopped at once by a second signal; for demo: interrupted", "yes"},
}

func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", c.code, wrap(c.meaning, 7, 110))
	}
	fmt.Fprintf(&b, "\nStart again after %s; perhaps after %s; after %s only when something was changed.",
		codesWith("yes"), codesWith("perhaps"), codesWith("no"))
	return b.String()
}

// codesWith lists the codes of that answer: "3, 5 and 130".
func codesWith(restart string) string {
	var codes []string
	for _, c := range exitCodes {
		if c.restart == restart {
			codes = append(codes, strconv.Itoa(c.code))
		}
	}
	last := len(codes) - 1
	if last < 1 {
		return strings.Join(codes, "")
	}
	return strings.Join(codes[:last], ", ") + " and " + codes[last]
}

// advice is what to do next: words, and flags to add to the command line, or
// "checkpoint" with one of its commands and flags.
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
		moving  checkpointError
		history *rigatoni.HistoryLostError
	)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &moving):
		return moving.code(), advice{}
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
		return exitDecision, advice{"to continue with the output as it is, once", "--accept-output=" + output.Accept}
	case errors.As(err, &output):
		return exitDecision, advice{}
	case errors.As(err, &refused):
		return exitDecision, advice{"to write refused events to files and continue", "--dead-letters=DIR"}
	case is(rigatoni.ErrCheckpointLost), errors.As(err, &history):
		return exitDecision, advice{} // see choices
	case is(rigatoni.ErrHistoryLost), is(state.ErrCorrupt), is(state.ErrExpired):
		return exitDecision, elsewhere
	case is(state.ErrNewer):
		return exitDecision, advice{"run the version of rigatoni that wrote it, or a later one", ""}
	case errors.As(err, &signal) && !is(rigatoni.ErrUndelivered) && !is(rigatoni.ErrUnsaved):
		return exitInterrupted, advice{}
	}
	return judgeCause(err)
}

// judgeCause maps an error that is about no checkpoint.
func judgeCause(err error) (code int, a advice) {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(state.ErrInvalid), is(syscall.ENOTDIR), is(syscall.EISDIR): // a file where a directory must be
		return exitUsage, advice{}
	case errors.As(err, new(*rigatoni.UnreadableError)):
		return exitDecision, advice{"to write what is known of such events to files and continue", "--dead-letters=DIR"}
	case is(changestream.ErrUnreadable), is(changestream.ErrFuture):
		return exitDecision, advice{}
	case is(rigatoni.ErrDestinationClosed) && !is(state.ErrRefused), is(errNoReader):
		return exitUnreachable, advice{"nothing is lost: the next start redelivers the events since the last checkpoint", ""}
	case is(syscall.ENOSPC), is(syscall.EDQUOT):
		return exitUnreachable, advice{}
	case is(changestream.ErrRefused), is(state.ErrRefused), is(fs.ErrPermission), is(syscall.EROFS), refusedLogin(err), badCertificate(err):
		return exitRefused, advice{}
	case is(state.ErrUnavailable), is(changestream.ErrUnreachable), unreachable(err):
		return exitUnreachable, advice{}
	case is(rigatoni.ErrUndelivered), is(rigatoni.ErrUnsaved):
		return exitFailure, advice{"nothing is lost: the next start redelivers what is not covered by a checkpoint", ""}
	}
	return exitFailure, advice{}
}

// format returns the advice with the whole command line.
func (a advice) format(args []string) string {
	switch {
	case a.text == "":
		return ""
	case a.flags == "" || len(args) == 0 || args[0] != "run" && args[0] != "check":
		return "\n  " + a.text
	}
	if command, ok := strings.CutPrefix(a.flags, "checkpoint "); ok {
		return "\n  " + a.text + ":\n    " + checkpointLine(args[1:], command)
	}
	line := "rigatoni run"
	for _, arg := range without(args[1:], a.flags+" --json --running") { // check's own
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

// refusedLogin reports whether a MongoDB server refuses this user.
func refusedLogin(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(refusals, server.HasErrorCode)
}

// badCertificate reports whether one side doesn't trust the other's certificate.
func badCertificate(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

// unreachable reports whether a server can't be reached.
func unreachable(err error) bool {
	return mongo.IsTimeout(err) || mongo.IsNetworkError(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, new(*net.OpError)) || errors.As(err, new(*net.DNSError))
}
