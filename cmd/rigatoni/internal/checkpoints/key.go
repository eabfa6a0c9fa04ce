package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Key is the key of a checkpoint: NAME, or NAME/STREAM.
type Key struct {
	Name, Stream string
	Configured   bool // it is one of the pipeline's that is configured
}

func (k Key) String() string {
	if k.Stream == "" {
		return k.Name
	}
	return k.Name + "/" + k.Stream
}

// lostSuffix follows a key in the name under which a pipeline keeps what it knew of
// a checkpoint that disappeared while it ran.
var lostSuffix = rigatoni.LostKey("")

func parseKey(text string) Key {
	name, stream, _ := strings.Cut(text, "/")
	return Key{Name: name, Stream: stream}
}

var (
	// ErrUnknownStream: the server can't be asked about a checkpoint.
	ErrUnknownStream = errors.New("the stream is unknown")
	// ErrNone: there is no checkpoint of that name.
	ErrNone = errors.New("the store has no such checkpoint")
)

// entries lists the store's keys that begin with prefix, in order, without those that
// are no stream's but kept beside one: of them, what is known of lost checkpoints.
func entries(ctx context.Context, s state.Store, prefix string) (all []state.Entry, lost map[string]state.Checkpoint, err error) {
	lost = map[string]state.Checkpoint{}
	for e, err := range state.List(ctx, s, prefix) {
		switch {
		case err != nil:
			return nil, nil, err
		case strings.Contains(e.Key, "/@"):
			if key, ok := strings.CutSuffix(e.Key, lostSuffix); ok && e.LoadErr == nil {
				lost[key] = e.Checkpoint
			}
		default:
			all = append(all, e)
		}
	}
	for key := range lost {
		if !slices.ContainsFunc(all, func(e state.Entry) bool { return e.Key == key }) {
			all = append(all, state.Entry{Key: key, LoadErr: state.ErrNotFound})
		}
	}
	slices.SortFunc(all, func(a, b state.Entry) int { return strings.Compare(a.Key, b.Key) })
	return all, lost, nil
}

// Find returns the keys of a pipeline's name that the store has.
func Find(ctx context.Context, s state.Store, name string) ([]Key, error) {
	all, _, err := entries(ctx, s, name)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, e := range all {
		if k := parseKey(e.Key); k.Name == name {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// unknown is the error for a name that the store does not have.
func unknown(ctx context.Context, s state.Store, k Key) error {
	all, _, err := entries(ctx, s, "")
	if err != nil {
		return err
	}
	const most = 10
	var names []string
	for _, e := range all {
		names = append(names, fmt.Sprintf("%q", e.Key))
	}
	switch n := len(names); {
	case n == 0:
		return fmt.Errorf("%w: %q; it has none at all. Is it the right store?", ErrNone, k)
	case n > most:
		names = append(names[:most], fmt.Sprintf("and %d more", n-most))
	}
	return fmt.Errorf("%w: %q; it has %s", ErrNone, k, strings.Join(names, ", "))
}
