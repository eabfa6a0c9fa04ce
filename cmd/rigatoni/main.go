// Command rigatoni runs change data capture (CDC) pipelines from MongoDB change
// streams. See "rigatoni help".
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		waitForSecond(signals, func(first os.Signal) { cancel(stopSignal{first}) })
		fmt.Fprintln(os.Stderr, "\nrigatoni: stopped at once by a second signal; events since the last checkpoint are redelivered")
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, world{
		args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv, environ: os.Environ(),
		terminal: isTerminal(os.Stderr), stdoutTerminal: isTerminal(os.Stdout),
	}))
}

// sameSignal is how long after the first signal another one is taken for the same
// request: timeout(1) signals the process, and right after that its whole group.
const sameSignal = 500 * time.Millisecond

// waitForSecond calls stop with the first signal, and returns after a second one.
func waitForSecond(signals <-chan os.Signal, stop func(os.Signal)) {
	stop(<-signals)
	first := time.Now()
	for range signals {
		if time.Since(first) >= sameSignal {
			return
		}
	}
}

// stopSignal is why the context ended.
type stopSignal struct{ os.Signal }

// Is makes it equal to context.Canceled for libraries, which then don't report it
// as a failure.
func (s stopSignal) Is(target error) bool { return target == context.Canceled }

func (s stopSignal) Error() string { return "asked to stop by the signal " + s.String() }
