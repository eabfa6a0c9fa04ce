package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A kind says what a failed attempt means for the next one.
type kind int

const (
	final   kind = iota // the next one would fare no better
	unsent              // certainly not executed
	unknown             // perhaps executed
)

// passing are the refusals of a server that will be all right by itself.
var passing = []string{
	"LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY ", "NOREPLICAS",
	"max number of clients reached",
}

func classify(err error) kind {
	var op *net.OpError
	var nothing notConnected
	switch {
	case hasCode(err, "UNBLOCKED"):
		return unknown // WAIT, of a master that is one no more
	case isAnswer(err):
		if hasCode(err, passing...) {
			return unsent
		}
		return final
	case errors.Is(err, redis.ErrClosed), refusesTLS(err):
		return final
	case errors.As(err, &nothing), errors.As(err, &op) && op.Op == "dial", errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return unsent
	}
	return unknown
}

// In a script, Redis 6.2 puts the place in the script before an error, and later ones
// after it.
var scriptPlace = regexp.MustCompile(`^(ERR )?(Error running script \(call to \w+\): @user_script: ?\d+: )?(@user_script: ?\d+: -?)?`)

var scriptEnd = regexp.MustCompile(` script: (\w+, )?on @user_script.*`)

// serverText returns a server's message as it is outside of scripts, "" if err is none.
func serverText(err error) string {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return ""
	}
	text := answer.Error()
	return strings.TrimSpace(scriptEnd.ReplaceAllString(text[len(scriptPlace.FindString(text)):], ""))
}

// hasCode reports whether err is a server's, inside a script or not, that begins with
// one of the codes.
func hasCode(err error, codes ...string) bool {
	text := serverText(err)
	return text != "" && slices.ContainsFunc(codes, func(code string) bool { return strings.HasPrefix(text, code) })
}

// noRight is how servers say that a user lacks a right: NOPERM for a command; in a
// script Redis before 7.2 and Valkey say something else.
var noRight = []string{"NOPERM", "The user executing the script can't", "ACL failure in script"}

// noCommand is how servers and proxies say that they don't have a command.
var noCommand = []string{"unknown command", "unsupported command", "invalid request", "command not supported"}

// refusesTLS reports whether the two sides can't agree on TLS: one does not like the
// other's certificate, or does not speak TLS at all.
func refusesTLS(err error) bool {
	var cert *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var op *net.OpError
	if errors.As(err, &cert) || errors.As(err, &header) {
		return true
	}
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	text := op.Error()
	return strings.Contains(text, "certificate") || strings.Contains(text, "decrypting") || strings.Contains(text, "handshake failure") || strings.Contains(text, "protocol version")
}

// describe is the error for what is final.
func describe(err error) error {
	if errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("%w: %w", state.ErrClosed, err)
	}
	if hasCode(err, "WRONGTYPE") {
		return fmt.Errorf("%w: the key's name in Redis has a value of another type: %w", state.ErrCorrupt, err)
	}
	hint := ""
	if refusesTLS(err) {
		hint = "TLS: "
	}
	for _, h := range hints {
		if hasCode(err, h.codes...) {
			hint = h.text
		}
	}
	if s := (sentinelError{}); errors.As(err, &s) && hasCode(err, noCommand...) {
		hint = "it is not a Sentinel; write redis://: "
	}
	return fmt.Errorf("%w: %s%w", state.ErrRefused, hint, clean(err))
}

var hints = []struct {
	codes []string
	text  string
}{
	{[]string{"NOAUTH"}, "it requires a password, and none is set (for a Sentinel: sentinel-password): "},
	{[]string{"WRONGPASS", "invalid password", "invalid username-password pair"}, "the user or the password is wrong: "},
	{noRight, "the user lacks a right: "},
	{noCommand, "it doesn't know a command that this store needs (is it a proxy, or not a Redis? connect to Redis directly): "},
	{[]string{"OOM"}, "its memory is full: "},
	{[]string{"MISCONF"}, "it can't write to its disk: "},
	{[]string{"MOVED"}, "it is part of a Redis Cluster; write redis+cluster://: "},
	{[]string{"SELECT is not allowed in cluster mode"}, "a Redis Cluster has only database 0: "},
	{[]string{"DB index is out of range"}, "it doesn't have this database: "},
}

func unavailable(attempts int, err error) error {
	if attempts == 1 {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, clean(err))
	}
	return fmt.Errorf("%w: %d attempts failed, the last one with: %w", state.ErrUnavailable, attempts, clean(err))
}

// undecided is the error of a call that is not repeated, because it may have been
// done.
func undecided(err error) error {
	if short := (*ReplicationError)(nil); errors.As(err, &short) {
		return unavailable(1, err)
	}
	return fmt.Errorf("%w: no response; the command may have been executed: %w", state.ErrUnavailable, clean(err))
}

// interrupted is the error of a call whose context ended before the answer came.
func interrupted(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: no response in time: %w", state.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("%w: no response in time: %w (%w)", state.ErrUnavailable, ctx.Err(), clean(err))
}

// userName is in Valkey's messages about a missing right.
var userName = regexp.MustCompile(`\bUser \S+ has no`)

// clean takes out of a server's message what it repeats of the command (the password of
// an AUTH that it doesn't know, or a checkpoint), the user, and the place in a script.
func clean(err error) error {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return err
	}
	text, _, _ := strings.Cut(serverText(answer), ", with args beginning with")
	text = userName.ReplaceAllString(text, "the user has no")
	if text == answer.Error() {
		return err
	}
	return serverError(strings.Replace(err.Error(), answer.Error(), text, 1))
}

// A serverError is a server's message without the rest. It is a redis.Error.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError marks it as a server's.
func (e serverError) RedisError() {}

// withCleanup is err, and what went wrong in putting things in order after it.
func withCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return fmt.Errorf("%w (and then: %w)", err, cleanup)
}
