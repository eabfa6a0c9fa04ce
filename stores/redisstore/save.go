package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A writer identifies the fence, if any, that a write is made under.
type writer struct {
	fence  state.Fence
	fenced bool
}

var unfenced writer

// fenced returns the writer for a write that is refused unless f is the current fence.
// The zero fence never is.
func fenced(f state.Fence) writer { return writer{fence: f, fenced: true} }

// epoch returns the epoch for the scripts, "" for an unfenced write.
func (w writer) epoch() string {
	if !w.fenced {
		return ""
	}
	return strconv.FormatUint(w.fence.Epoch, 10)
}

func (s *Store) save(ctx context.Context, key string, by writer, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return s.fail("save", key, err)
	}
	c, err := s.saveCall(key, by, cp)
	if err != nil {
		return s.fail("save", key, err)
	}
	r, err := s.call(ctx, c)
	return s.fail("save", key, s.saved(ctx, key, r, err))
}

// saveCall returns the call for a save that [record.CheckSave] has accepted.
func (s *Store) saveCall(key string, by writer, cp state.Checkpoint) (call, error) {
	text, token, err := encode(cp, time.Now())
	return call{
		script: saveScript, key: key,
		// Redis recognizes a repetition by the fence or by the sequence.
		again: by.fenced || cp.Sequence != 0,
		args:  []any{by.epoch(), by.fence.Nonce, cp.Sequence, text, token, s.ttl},
	}, err
}

// saved reports that a save has replaced a record that had disappeared.
func (s *Store) saved(ctx context.Context, key string, r reply, err error) error {
	if err == nil && r.text(0) == "LOST" {
		s.opts.Logger.WarnContext(ctx, "redis had lost the checkpoint before this save: it was deleted or evicted; set maxmemory-policy to noeviction",
			"key", key, "server", s.name)
	}
	return err
}
