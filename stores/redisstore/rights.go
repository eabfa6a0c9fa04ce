package redisstore

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

var (
	//go:embed scripts/rights.lua
	rightsText   string
	rightsScript = newScript(rightsText)
)

// checkRights refuses a user who may not run what the scripts run. Redis finds that
// out command by command: a save that may SET and not HSET would leave a checkpoint
// without its fence. Whatever else is wrong is left to the calls that meet it.
func (s *Store) checkRights(ctx context.Context, c redis.UniversalClient) error {
	return s.eachMaster(ctx, func(name string) error {
		cmd := s.scriptOn(ctx, "evalsha", rightsScript.sha, name)
		err := c.Process(ctx, cmd)
		if hasCode(err, "NOSCRIPT") {
			cmd = s.scriptOn(ctx, "eval", rightsScript.text, name)
			err = c.Process(ctx, cmd)
		}
		if err != nil {
			if hasCode(err, noRight...) || hasCode(err, noCommand...) {
				return describe(err)
			}
			return nil
		}
		r, err := answer(cmd.Cmd)
		if err == nil && r.text(0) == "LACKS" {
			return fmt.Errorf("%w: the user lacks a right: +%s: %w", state.ErrRefused, r.text(1), clean(serverError(r.text(2))))
		}
		return err
	})
}

func (s *Store) scriptOn(ctx context.Context, command, script, name string) onceCmd {
	cmd := redis.NewCmd(ctx, command, script, 1, name)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// eachMaster calls f with a name in Redis, one that belongs to no key, that each
// server which is written to has.
func (s *Store) eachMaster(ctx context.Context, f func(name string) error) error {
	if s.cluster == nil {
		return f(s.opts.KeyPrefix + "{}:ping")
	}
	seen := make(map[*redis.Client]bool)
	var err error
	// Names are spread evenly. A master with so few slots that none of a thousand
	// is in them is not asked.
	for i := 0; i < 1000 && err == nil; i++ {
		name := s.opts.KeyPrefix + "{}:ping" + strconv.Itoa(i)
		var node *redis.Client
		if node, err = s.cluster.MasterForKey(ctx, name); err == nil && !seen[node] {
			seen[node] = true
			err = f(name)
		}
	}
	return err
}
