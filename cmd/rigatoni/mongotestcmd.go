package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni/mongotest"
)

func newMongotestCommand(w world) *cobra.Command {
	var (
		o         mongotest.Options
		stopOnEOF bool
	)
	cmd := &cobra.Command{
		Use:   "mongotest",
		Short: "Serve a small MongoDB for tests, in memory",
		Long: "Mongotest is a server for tests of change-stream code in any language: a MongoDB replica set\n" +
			"of one node, as drivers see it. It keeps everything in memory, and listens on loopback addresses\n" +
			"only, because it has no access control.\n\n" +
			"It prints one line on standard output, its URI, when it accepts connections. It serves until\n" +
			"SIGINT or SIGTERM, and exits with 0. What it supports, and what not, is documented at\n" +
			"https://pkg.go.dev/github.com/rigatoni-etl/rigatoni/mongotest. For failures there are\n" +
			"the fail points of a real server (configureFailPoint) and replSetStepDown.\n\n" +
			"A test that is killed can't stop its server. With --stop-on-eof the server stops when its\n" +
			"standard input ends: with a pipe, when the process at the other end is gone.",
		Example: "  # a shell\n" +
			"  mkfifo uri; rigatoni mongotest >uri & read -r MONGODB_URI <uri\n\n" +
			"  # Python\n" +
			"  server = subprocess.Popen([\"rigatoni\", \"mongotest\", \"--stop-on-eof\"], text=True,\n" +
			"                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n" +
			"  client = pymongo.MongoClient(server.stdout.readline().strip())",
		Args: noArguments,
	}
	cmd.Flags().StringVar(&o.Address, "listen", "127.0.0.1:0", "listen on this loopback `address`; port 0 is any that is free")
	cmd.Flags().IntVar(&o.OplogEntries, "oplog-entries", 250_000, "how many `changes` the oplog holds")
	cmd.Flags().BoolVar(&o.V2Tokens, "v2-tokens", false, "issue resume tokens of version 2, as MongoDB does since 7.0")
	cmd.Flags().BoolVar(&stopOnEOF, "stop-on-eof", false, "stop also when standard input ends")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// The zero value of an option is its default; that of a flag is a mistake.
		switch {
		case o.Address == "":
			return errors.New("--listen is empty; it must be a loopback address with a port, such as 127.0.0.1:0")
		case o.OplogEntries < 1:
			return fmt.Errorf("--oplog-entries is %d; it must be at least 1", o.OplogEntries)
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		if stopOnEOF {
			go func() {
				_, _ = io.Copy(io.Discard, w.stdin) // input that can't be read counts as ended
				cancel()
			}()
		}
		return serveMongotest(ctx, w, o)
	}
	return cmd
}

func serveMongotest(ctx context.Context, w world, o mongotest.Options) error {
	server, err := mongotest.Listen(ctx, o)
	if err != nil {
		return listenError(o.Address, err)
	}
	defer server.Close()
	if _, err := fmt.Fprintln(w.stdout, server.URI()); err != nil {
		return ending(fmt.Errorf("writing the URI: %w", err))
	}
	<-ctx.Done()
	return nil
}

// listenError explains why a server can't listen. An error of the system may be
// gone the next time; any other is a mistake in the command line.
func listenError(address string, err error) error {
	var system *os.SyscallError
	if errors.As(err, &system) {
		// Only the text: judge would take a network error for an unreachable server.
		return ending(fmt.Errorf("--listen %s: %v (port 0 takes any that is free)", address, system.Err))
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return fmt.Errorf("--listen %s: %w", address, op.Err)
	}
	return errors.New(strings.NewReplacer("mongotest: Options.Address", "--listen").Replace(err.Error()))
}
