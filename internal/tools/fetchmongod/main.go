// Command fetchmongod downloads a MongoDB server for tests into the user's cache
// directory, unless there is one already, and prints its path.
//
//	go run ./internal/tools/fetchmongod [version]
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "fetchmongod:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := mongod.FindOptions{Fetch: true, Logf: func(format string, args ...any) {
		fmt.Fprintf(stderr, format+"\n", args...)
	}}
	switch len(args) {
	case 0:
	case 1:
		o.Version = args[0]
	default:
		return fmt.Errorf("one argument at most, the version (%s or %s)", mongod.Version6027, mongod.Version605)
	}
	bin, err := mongod.Find(ctx, o)
	if err != nil {
		return err
	}
	if bin.LibDir != "" {
		fmt.Fprintln(stderr, byHand(bin))
	}
	_, err = fmt.Fprintln(stdout, bin.Path)
	return err
}

// byHand says how to start a server that comes with shared libraries of its own.
func byHand(bin mongod.Binary) string {
	return fmt.Sprintf("to start it yourself: LD_LIBRARY_PATH=%s %s …", bin.LibDir, bin.Path)
}
