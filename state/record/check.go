package record

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/rigatoni-etl/rigatoni/state"
)

// CheckSave returns an [state.ErrInvalid] unless a store may save cp under key.
// Stores call it before anything else.
func CheckSave(key string, cp state.Checkpoint) error {
	if err := state.CheckKey(key); err != nil {
		return err
	}
	switch {
	case cp.Token.IsZero():
		return fmt.Errorf("%w: the checkpoint has no resume token", state.ErrInvalid)
	case cp.Sequence > state.MaxSequence:
		return fmt.Errorf("%w: sequence %d is above the maximum, %d", state.ErrInvalid, cp.Sequence, uint64(state.MaxSequence))
	case !utf8.ValidString(cp.Fingerprint):
		return fmt.Errorf("%w: the fingerprint is not UTF-8", state.ErrInvalid)
	}
	for name, doc := range cp.Extra {
		if err := checkDoc("Extra", name, doc); err != nil {
			return err
		}
	}
	return nil
}

// CheckBatch returns one error per item: nil, or the [state.ErrInvalid] with which
// a [state.BatchSaver] refuses the item. Stores call it before anything else.
func CheckBatch(items []state.Item) []error {
	count := make(map[string]int, len(items))
	for _, it := range items {
		count[it.Key]++
	}
	errs := make([]error, len(items))
	for i, it := range items {
		errs[i] = CheckSave(it.Key, it.Checkpoint)
		if count[it.Key] > 1 {
			errs[i] = fmt.Errorf("%w: the batch has the key %q more than once", state.ErrInvalid, it.Key)
		}
	}
	return errs
}

// CheckLeaseRequest returns an [state.ErrInvalid] unless the request is complete.
func CheckLeaseRequest(r state.LeaseRequest) error {
	switch {
	case r.Nonce == "":
		return fmt.Errorf("%w: the lease request has no nonce", state.ErrInvalid)
	case !utf8.ValidString(r.Nonce) || !utf8.ValidString(r.Owner):
		return fmt.Errorf("%w: the lease request's nonce or owner is not UTF-8", state.ErrInvalid)
	}
	return checkTTL(r.TTL)
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("%w: a lease of %v is shorter than a millisecond", state.ErrInvalid, ttl)
	}
	return nil
}

// checkDoc returns an ErrInvalid if doc can't be a named JSON document.
func checkDoc(field, name string, doc json.RawMessage) error {
	switch {
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: a name in %s is not UTF-8", state.ErrInvalid, field)
	case !json.Valid(doc) || !utf8.Valid(doc):
		return fmt.Errorf("%w: %s[%q] is not JSON", state.ErrInvalid, field, name)
	}
	return nil
}
