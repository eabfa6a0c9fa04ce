package crashtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

// args are those of the pipeline's command.
func (c *Config) args() []string {
	args := []string{
		"run", "--source", c.Source, "--database", c.Database, "--collections", strings.Join(c.Collections, ","),
		"--name", c.Database, "--store", c.StoreURL, "--to", "ndjson:" + c.Out + c.ToOptions, "--log-format", "json",
	}
	if c.OneEach {
		args = append(args, "--one-each")
	}
	return append(args, c.Flags...)
}

// keys are those of the checkpoints, by stream.
func (c *Config) keys() map[string]string {
	if !c.OneEach {
		return map[string]string{"": c.Database}
	}
	keys := map[string]string{}
	for _, coll := range c.Collections {
		keys[coll] = c.Database + "/" + coll
	}
	return keys
}

// checkpoints reads those that there are.
func (r *runner) checkpoints(ctx context.Context) (map[string]state.Checkpoint, error) {
	found := map[string]state.Checkpoint{}
	for stream, key := range r.cfg.keys() {
		cp, err := r.cfg.Store.Load(ctx, key)
		switch {
		case err == nil:
			found[stream] = cp
		case !errors.Is(err, state.ErrNotFound):
			return nil, fmt.Errorf("looking at the checkpoint: %w", err)
		}
	}
	return found, nil
}
