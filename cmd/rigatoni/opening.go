package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/state"
)

// open opens destination, source, store and dead letters. The caller calls closeAll,
// also after an error.
func open(ctx context.Context, w world, s config.Settings, log *slog.Logger) (c rigatoni.Config, closeAll func() error, err error) {
	var closers []func() error
	closeAll = func() error {
		var errs []error
		for i := len(closers) - 1; i >= 0; i-- {
			errs = append(errs, closers[i]())
		}
		return errors.Join(errs...)
	}
	stdout, err := standardOutput(w, s)
	if err != nil {
		return c, closeAll, err
	}
	dest, err := interruptible(ctx, func() (rigatoni.Destination, error) { return s.Output.To.Open(ctx, stdout, log) })
	if err != nil {
		return c, closeAll, destinationError(s, err)
	}
	closers = append(closers, func() error {
		if err := backend.Close(dest); err != nil {
			return fmt.Errorf("closing the destination: %w", err)
		}
		return nil
	})
	s.Watch.Logger = log
	source, err := interruptible(ctx, func() (*changestream.Source, error) { return changestream.Open(s.Server.Source, &s.Watch) })
	switch {
	case errors.As(err, new(*net.DNSError)):
		return c, closeAll, err
	case err != nil:
		return c, closeAll, usageError{s.Explain(err)}
	}
	closers = append(closers, func() error {
		// The driver sometimes takes ten seconds. The process ends, and every connection
		// with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = interruptible(ctx, func() (any, error) { return nil, source.Close(ctx) })
		return nil
	})
	store, err := interruptible(ctx, func() (state.Store, error) { return s.Checkpoints.Store.Open(ctx, log) })
	if err != nil {
		return c, closeAll, err
	}
	closers = append(closers, func() error {
		if store == nil { // the destination keeps the checkpoints
			return nil
		}
		if err := state.Close(store); err != nil {
			return fmt.Errorf("closing the store: %w", err)
		}
		return nil
	})
	c = pipelineConfig(s, source, dest, store, log)
	c.DeadLetters, err = interruptible(ctx, func() (rigatoni.DeadLetters, error) { return deadLetters(s.Output.DeadLetters, log) })
	return c, closeAll, err
}

// destinationError is the error of opening a destination: that of a server, or of what
// the configuration says.
func destinationError(s config.Settings, err error) error {
	if s.Output.To.Ref.Kind.Checkpoints {
		return fmt.Errorf("opening the destination %s: %w", s.Output.To, err)
	}
	return usageError{err}
}

// standardOutput is where events go with ndjson:-. A pipe whose reader ends is an
// error there, and doesn't end the process by SIGPIPE.
func standardOutput(w world, s config.Settings) (io.Writer, error) {
	f, ok := w.stdout.(*os.File)
	if !ok || !toStdout(s) {
		return w.stdout, nil
	}
	if err := checkStdout(f); errors.Is(err, errNoReader) {
		return nil, err
	} else if err != nil {
		return nil, usageError{fmt.Errorf("--to ndjson:-: %w", err)}
	}
	return surviving(f), nil
}

// interruptible opens something. Where that doesn't heed the end of ctx, as a DNS
// server or a network file system that doesn't answer, it is abandoned.
func interruptible[T any](ctx context.Context, open func() (T, error)) (T, error) {
	type result struct {
		opened T
		err    error
	}
	done := make(chan result, 1)
	go func() {
		opened, err := open()
		done <- result{opened, err}
	}()
	select {
	case r := <-done:
		return r.opened, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
