package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/checkpoints"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore/rustcrate"
)

// importFlags say what to import.
type importFlags struct{ from, name string }

// An importer finds the position for a key in what another tool has kept. only is
// set if there is no other key.
type importer func(ctx context.Context, x *checkpointSession, f importFlags, k checkpoints.Key, only bool) (checkpoints.Target, error)

var importers = map[string]importer{
	"token":       importToken,
	"debezium":    importOffset(checkpoints.Debezium),
	"mongo-kafka": importOffset(checkpoints.MongoKafka),
	"rigatoni-rs": importRustCrate,
	"rigatoni":    importExport,
}

const importFormats = "token, debezium, mongo-kafka, rigatoni-rs or rigatoni"

func newCheckpointImport(w world) *cobra.Command {
	f := &moveFlags{checkpointFlags: checkpointFlags{need: []string{"store", "source"}}}
	var from importFlags
	cmd := &cobra.Command{
		Use:   "import FORMAT [pipeline.yaml]",
		Short: "Take over the position of another tool, or an exported checkpoint",
		Long: "Import makes the position that another tool has kept the checkpoint of a pipeline, if the server can\n" +
			"resume from it. Stop the other tool first. Without --execute nothing is changed.\n\n" +
			"FORMAT        --from\n" +
			"  token       a resume token: as JSON, the digits of its _data, BSON or base64; or @FILE\n" +
			"  debezium    a file with the connector's offsets, in any form that Kafka Connect has\n" +
			"  mongo-kafka the same of MongoDB's source connector\n" +
			"  rigatoni-rs the URL of the Redis in which the Rust crate keeps its tokens\n" +
			"  rigatoni    a file that checkpoint export has printed\n\n" +
			"For files, - is standard input.",
		Example: "  rigatoni checkpoint import debezium pipeline.yaml --from offsets.dat\n" +
			"  rigatoni checkpoint export old.yaml | rigatoni checkpoint import rigatoni new.yaml --from -",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("import takes a format first: %s", importFormats)
			}
			return oneFile(cmd, args[1:])
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&from.from, "from", "", "what to import: a `FILE`, a URL or a token, as the format says")
	cmd.Flags().StringVar(&from.name, "from-name", "", "which of several: a part of the offset's `NAME`, or the crate's name of the stream")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		find, ok := importers[args[0]]
		switch {
		case !ok:
			return ending(usageError{fmt.Errorf("there is no format %q; it must be %s", args[0], importFormats)})
		case from.from == "":
			return ending(usageError{errors.New("--from is missing: what to import")})
		}
		f.create, f.emptyIfNew = f.execute, !f.execute
		return checkpointRun(cmd, w, &f.checkpointFlags, args[1:], func(ctx context.Context, x *checkpointSession) error {
			keys, err := x.keys(ctx)
			if err != nil {
				return err
			}
			only := len(keys) == 1
			if !only && args[0] != "rigatoni" {
				return usageError{fmt.Errorf("the pipeline has %d streams, and this is one position; say with --stream whose", len(keys))}
			}
			return moveKeys(ctx, x, f, "checkpoint import "+args[0], func(ctx context.Context, x *checkpointSession, m *checkpoints.Mover, k checkpoints.Key) (*checkpoints.Change, error) {
				target, err := find(ctx, x, from, k, only)
				if err != nil {
					return nil, err
				}
				return m.Set(ctx, k, "import", target)
			})
		})
	}
	return cmd
}

func importToken(_ context.Context, x *checkpointSession, f importFlags, _ checkpoints.Key, _ bool) (checkpoints.Target, error) {
	return givenToken(f.from, x.w.stdin)
}

func importOffset(read func([]byte) ([]checkpoints.Offset, error)) importer {
	return func(_ context.Context, x *checkpointSession, f importFlags, _ checkpoints.Key, _ bool) (checkpoints.Target, error) {
		text, err := readAll(f.from, x.w.stdin)
		if err != nil {
			return checkpoints.Target{}, err
		}
		all, err := read(text)
		if err != nil {
			return checkpoints.Target{}, err
		}
		o, err := checkpoints.Choose(all, f.name)
		return checkpoints.TokenTarget(o.Token), err
	}
}

func importExport(_ context.Context, x *checkpointSession, f importFlags, k checkpoints.Key, only bool) (checkpoints.Target, error) {
	if x.exported == nil {
		doc, err := readAll(f.from, x.w.stdin)
		if err != nil {
			return checkpoints.Target{}, err
		}
		exported, err := checkpoints.ReadExport(doc)
		if err != nil {
			return checkpoints.Target{}, err
		}
		x.exported = &exported
	}
	cp, err := x.exported.For(k, only)
	return checkpoints.Target{Token: &cp}, err
}

// importRustCrate reads the token of what the crate has delivered.
func importRustCrate(ctx context.Context, x *checkpointSession, f importFlags, _ checkpoints.Key, _ bool) (checkpoints.Target, error) {
	store, err := backend.OpenStore(ctx, f.from, x.log)
	if err != nil {
		return checkpoints.Target{}, fmt.Errorf("--from: %w", err)
	}
	defer func() {
		if err := state.Close(store); err != nil {
			x.log.Log(ctx, slog.LevelWarn, "the crate's Redis was not closed", "err", err)
		}
	}()
	redis, ok := store.(*redisstore.Store)
	if !ok {
		return checkpoints.Target{}, usageError{errors.New("--from is no Redis; the crate keeps its tokens in one, as redis://localhost:6379")}
	}
	names, err := x.crateNames(f.name)
	if err != nil {
		return checkpoints.Target{}, err
	}
	var earliest resumetoken.Token
	for _, name := range names {
		token, err := rustcrate.Load(ctx, redis, name)
		if err != nil {
			return checkpoints.Target{}, crateError(ctx, redis, name, err)
		}
		if order, ok := resumetoken.Compare(token, earliest); earliest.IsZero() || ok && order < 0 {
			earliest = token
		}
	}
	return checkpoints.TokenTarget(earliest), nil
}

// crateNames are the names under which the crate keeps what it has delivered of the
// pipeline's stream: one for each collection, where several are watched.
func (x *checkpointSession) crateNames(given string) ([]string, error) {
	watch := x.s.Watch
	switch {
	case given != "":
		return []string{given}, nil
	case !x.configured:
		return nil, usageError{errors.New("--from-name is missing: the crate's name of the stream, as orders for a collection, __db:shop for a database, or __deployment__")}
	case x.flags.stream != "":
		return []string{x.flags.stream}, nil
	case len(watch.Collections) > 0:
		return watch.Collections, nil
	case watch.Database != "":
		return []string{"__db:" + watch.Database}, nil
	}
	return []string{"__deployment__"}, nil
}

// crateError adds which names there are.
func crateError(ctx context.Context, redis *redisstore.Store, name string, err error) error {
	names, errNames := rustcrate.Names(ctx, redis)
	if !errors.Is(err, state.ErrNotFound) || errNames != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: that Redis has no key of the crate at all; is it the right one, and the right database of it?", checkpoints.ErrNoToken)
	}
	return fmt.Errorf("%w under the crate's name %q; there are %q, for --from-name. Those that begin with resume_token: are of what the crate has read and perhaps not delivered",
		checkpoints.ErrNoToken, name, names)
}
