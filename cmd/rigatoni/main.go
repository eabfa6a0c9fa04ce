// Command rigatoni runs change data capture (CDC) pipelines from MongoDB change
// streams. See "rigatoni help".
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

func main() {
	crashByAbort()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // little lives long: 10 MiB less of memory
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w := world{
		args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: surviving(os.Stderr), env: os.LookupEnv, environ: os.Environ(),
		terminal: isTerminal(os.Stderr), stdoutTerminal: isTerminal(os.Stdout),
	}
	w.messages = newMessages(w)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, stopSignals()...)
	go func() {
		waitForSecond(signals, func(first os.Signal) { cancel(stopSignal{first}) })
		w.messages.endAtOnce()
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, w))
}

// stopSignals are the signals that stop the command. SIGHUP, which a terminal sends
// when it goes away, is not one of them under nohup(1).
func stopSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// sameRequest is how long after the first signal a SIGTERM is taken for the same
// request: timeout(1) and supervisors signal the process and then its whole group.
const sameRequest = time.Second

// waitForSecond calls stop with the first signal, and returns when another one asks to
// end at once: a SIGINT, which is a second Ctrl-C, or a SIGTERM later than sameRequest.
// A terminal that goes away sends SIGHUP more than once, and never means that.
func waitForSecond(signals <-chan os.Signal, stop func(os.Signal)) {
	stop(<-signals)
	first := time.Now()
	for s := range signals {
		if s == os.Interrupt || s == syscall.SIGTERM && time.Since(first) >= sameRequest {
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
