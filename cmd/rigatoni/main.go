// Command rigatoni runs MongoDB change-stream pipelines that never lose their
// place. "rigatoni help" says how.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(stopSignal{<-signals})
		<-signals
		fmt.Fprintln(os.Stderr, "\nrigatoni: stopped at once by a second signal; what was delivered since the last save comes again")
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, world{
		args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv,
		terminal: isTerminal(os.Stderr), stdoutTerminal: isTerminal(os.Stdout),
	}))
}

// stopSignal is why the context ended.
type stopSignal struct{ os.Signal }

// Is makes it the end of a context that libraries know, so that they take it for
// no failure.
func (s stopSignal) Is(target error) bool { return target == context.Canceled }

func (s stopSignal) Error() string { return "asked to stop by the signal " + s.String() }
