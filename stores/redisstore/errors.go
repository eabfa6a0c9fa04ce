package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
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
	var answer redis.Error
	var op *net.OpError
	var nothing notConnected
	switch {
	case redis.HasErrorPrefix(err, "UNBLOCKED"):
		return unknown // WAIT, of a master that is one no more
	case errors.As(err, &answer):
		for _, prefix := range passing {
			if redis.HasErrorPrefix(err, prefix) {
				return unsent
			}
		}
		return final
	case errors.Is(err, redis.ErrClosed), refusesTLS(err):
		return final
	case errors.As(err, &nothing), errors.As(err, &op) && op.Op == "dial", errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return unsent
	}
	return unknown
}

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
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("%w: the key's name in Redis has a value of another type: %w", state.ErrCorrupt, err)
	}
	hint := ""
	if refusesTLS(err) {
		hint = "TLS: "
	}
	for _, h := range hints {
		if redis.HasErrorPrefix(err, h.prefix) {
			hint = h.text
		}
	}
	return fmt.Errorf("%w: %s%w", state.ErrRefused, hint, clean(err))
}

var hints = []struct{ prefix, text string }{
	{"NOAUTH", "it requires a password, and none is set (for a Sentinel: sentinel-password): "},
	{"WRONGPASS", "the user or the password is wrong: "},
	{noRight[0], "the user lacks a right: "},
	{noRight[1], "the user lacks a right: "},
	{"OOM", "its memory is full: "},
	{"MISCONF", "it can't write to its disk: "},
	{"MOVED", "it is part of a Redis Cluster; write redis+cluster://: "},
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

// clean takes out of a server's message what it repeats of the command: the
// password of an AUTH that it doesn't know, or a checkpoint.
func clean(err error) error {
	var answer redis.Error
	if errors.As(err, &answer) {
		if text, _, echo := strings.Cut(answer.Error(), ", with args beginning with"); echo {
			return serverError(text)
		}
	}
	return err
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
