package statetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// placeMutants get places, keys and sequences wrong.
var placeMutants = []mutant{
	// What Load says and gives.
	{"a zero checkpoint for a key without one", "Load/NotFound", func(b *bug) { b.load = zeroForNone }},
	{"a panic", "Load/NotFound", func(b *bug) { b.load = func(*record.Record) (state.Checkpoint, error) { panic("nil map") } }},
	{"unreadable is absent", "Damage/Load", func(b *bug) { b.read = func(e *kept) error { return none(read(e)) } }},
	{"unreadable is a zero checkpoint", "Damage/Load", func(b *bug) { b.read, b.load = nothing, zeroForNone }},
	{"unreadable is forgotten by the first Load", "Damage/Load", func(b *bug) { b.read = healed() }},
	{"newer is damaged", "Damage/Newer", func(b *bug) {
		b.read = func(e *kept) error { return replace(read(e), state.ErrNewer, state.ErrCorrupt) }
	}},
	{"newer is read as it is", "Damage/Newer", func(b *bug) { b.read = func(e *kept) error { return replace(read(e), state.ErrNewer, nil) } }},
	{"expired is absent", "Expiry/Load", func(b *bug) {
		b.load = func(r *record.Record) (state.Checkpoint, error) { cp, err := r.Load(); return cp, none(err) }
	}},
	{"_typeBits lost", "Load/Token", keeps(func(cp *state.Checkpoint) {
		if v, err := cp.Token.Raw().LookupErr("_data"); err == nil {
			cp.Token = mustToken(bson.D{{Key: "_data", Value: v}})
		}
	})},
	{"tokens cut at 64 KB", "Load/Token", keeps(func(cp *state.Checkpoint) {
		if s, ok := cp.Token.Raw().Lookup("_data").StringValueOK(); ok && len(s) > 64<<10 {
			cp.Token = mustToken(bson.D{{Key: "_data", Value: s[:64<<10]}})
		}
	})},
	{"big tokens refused", "Load/Token", refuses(func(_ string, cp state.Checkpoint) bool { return cp.Token.Len() > 512<<10 })},
	{"StartAfter lost", "Load/StartAfter", keeps(func(cp *state.Checkpoint) { cp.StartAfter = false })},
	{"StartAfter set by every token", "Load/StartAfter", keeps(func(cp *state.Checkpoint) { cp.StartAfter = true })},
	{"increment of the cluster time lost", "Load/ClusterTime", keeps(func(cp *state.Checkpoint) { cp.ClusterTime.I = 0 })},
	{"cluster time as a signed number", "Load/ClusterTime", keeps(func(cp *state.Checkpoint) { cp.ClusterTime.T &= 1<<31 - 1 })},
	{"SavedAt not filled in", "Load/SavedAt", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		rec.Checkpoint.SavedAt = cp.SavedAt
		return rec
	})},
	{"SavedAt in seconds", "Load/SavedAt", keeps(func(cp *state.Checkpoint) { cp.SavedAt = cp.SavedAt.Truncate(time.Second) })},
	{"SavedAt always now", "Load/SavedAt", keeps(func(cp *state.Checkpoint) { cp.SavedAt = time.Now() })},
	{"Sequence not given back", "Load/Sequence", gives(func(cp *state.Checkpoint) { cp.Sequence = 0 })},
	{"Fingerprint lost", "Load/Fingerprint", keeps(func(cp *state.Checkpoint) { cp.Fingerprint = "" })},
	{"Fingerprint trimmed", "Load/Fingerprint", keeps(func(cp *state.Checkpoint) { cp.Fingerprint = strings.ReplaceAll(cp.Fingerprint, "\x00", "") })},
	{"Epoch taken as it is given", "Load/Epoch", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		rec.Checkpoint.Epoch = cp.Epoch
		return rec
	})},
	{"Extra lost", "Load/Extra", keeps(func(cp *state.Checkpoint) { cp.Extra = nil })},
	{"numbers in Extra rounded", "Load/Extra", keeps(func(cp *state.Checkpoint) {
		for name, doc := range cp.Extra {
			cp.Extra[name] = bytes.ReplaceAll(doc, []byte("9223372036854775807"), []byte("9223372036854775808"))
		}
	})},
	{"Extra of earlier saves stays", "Load/Extra", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		merged := map[string]json.RawMessage{}
		for _, extra := range []map[string]json.RawMessage{old.Checkpoint.Extra, cp.Extra} {
			for name, doc := range extra {
				merged[name] = doc
			}
		}
		rec.Checkpoint.Extra = merged
		return rec
	})},
	{"fields of the old one shine through", "Load/TokenAlone", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		if cp.Fingerprint == "" {
			rec.Checkpoint.Fingerprint = old.Checkpoint.Fingerprint
		}
		return rec
	})},
	{"Extra shared with who saves", "Load/NoSharedMemory", func(b *bug) { b.keep = same }},
	{"Extra shared with who loads", "Load/NoSharedMemory", func(b *bug) { b.give = same }},

	// What Save takes.
	{"the first save stays", "Save/Replaces", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		if old.Status == record.Saved {
			rec.Checkpoint = old.Checkpoint
		}
		return rec
	})},
	{"Load from a cache", "Save/Visible", func(b *bug) { b.load = cached() }},
	{"no token", "Save/NoToken", checks(func(key string, cp state.Checkpoint) bool { return cp.Token.IsZero() })},
	{"any sequence", "Save/SequenceTooBig", checks(func(key string, cp state.Checkpoint) bool { return cp.Sequence > state.MaxSequence })},
	{"Extra that is not JSON", "Save/NotJSON", checks(func(key string, cp state.Checkpoint) bool { return cp.Extra["bad"] != nil })},
	{"text that is not UTF-8", "Save/NotUTF8", checks(func(key string, cp state.Checkpoint) bool { return strings.Contains(cp.Fingerprint, "\xff") })},
	{"the empty key", "Save/BadKeys", checks(func(key string, _ state.Checkpoint) bool { return key == "" })},
	{"keys of any length", "Save/BadKeys", checks(func(key string, _ state.Checkpoint) bool { return len(key) > state.MaxKeyLen })},
	{"keys that are not UTF-8", "Save/BadKeys", checks(func(key string, _ state.Checkpoint) bool { return key == "\x80" })},
	{"Load of any key", "Save/BadKeys", func(b *bug) { b.checkKey = func(string) error { return nil } }},
	{"a/b under a", "Save/OtherKeysUntouched", keyed(func(key string) string { name, _, _ := strings.Cut(key, "/"); return name })},

	// Keys that meet.
	{"keys in lower case", "Keys/Case", keyed(strings.ToLower)},
	{"keys folded as some file systems do", "Keys/Case", keyed(func(key string) string { return strings.ReplaceAll(key, "\u212a", "K") })},
	{"':' and '/' are one", "Keys/Separators", keyed(func(key string) string { return strings.ReplaceAll(key, ":", "/") })},
	{"'/' written as %2F, and % as it is", "Keys/Separators", keyed(func(key string) string { return strings.ReplaceAll(key, "/", "%2F") })},
	{"keys cleaned as paths", "Keys/Paths", keyed(path.Clean)},
	{"keys kept with .json behind, or not", "Keys/Paths", keyed(func(key string) string { return strings.TrimSuffix(key, ".json") })},
	{"what stands in {} is the key", "Keys/Patterns", keyed(func(key string) string {
		if _, tag, ok := strings.Cut(key, "{"); ok {
			if in, _, ok := strings.Cut(tag, "}"); ok && in != "" {
				return in
			}
		}
		return key
	})},
	{"quotes taken away", "Keys/Patterns", keyed(func(key string) string { return strings.ReplaceAll(key, "'", "") })},
	{"keys composed (NFC)", "Keys/Encodings", keyed(func(key string) string { return strings.ReplaceAll(key, "e\u0301", "é") })},
	{"a mark at the beginning taken away", "Keys/Encodings", keyed(func(key string) string { return strings.ReplaceAll(key, "\ufeff", "") })},
	{"NUL ends a key", "Keys/Control", keyed(func(key string) string { name, _, _ := strings.Cut(key, "\x00"); return name })},
	{"line ends taken away", "Keys/Control", keyed(func(key string) string { return strings.TrimRight(key, "\r\n") })},
	{"keys trimmed", "Keys/Spaces", keyed(strings.TrimSpace)},
	{"dots at the end taken away", "Keys/Spaces", keyed(func(key string) string { return strings.TrimRight(key, ". ") })},
	{"keys cut at 255", "Keys/Lengths", keyed(func(key string) string { return key[:min(len(key), 255)] })},
	{"names too long for a file", "Keys/Lengths", refuses(func(key string, _ state.Checkpoint) bool { return len(fmt.Sprintf("%x.json", key)) > 255 })},
	{"names of devices refused", "Keys/Bare", refuses(func(key string, _ state.Checkpoint) bool { return key == "CON" })},
	{"'.' is the folder", "Keys/Bare", refuses(func(key string, _ state.Checkpoint) bool { return key == "." || key == ".." })},

	// Sequences.
	{"stale accepted", "Sequence/Lower", func(b *bug) {
		b.admit = tolerant(func(old record.Record, cp state.Checkpoint) bool { return cp.Sequence < old.LastSequence })
	}},
	{"stale writes, and says ErrStale", "Sequence/Lower", func(b *bug) { b.load, b.admit = writesAnyway() }},
	{"the same sequence with another token accepted", "Sequence/SameOtherToken", func(b *bug) {
		b.admit = tolerant(func(old record.Record, cp state.Checkpoint) bool {
			return cp.Sequence == old.LastSequence && old.Status == record.Saved
		})
	}},
	{"the same sequence and token refused", "Sequence/SameAgain", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if cp.Sequence != 0 && cp.Sequence == old.LastSequence {
				return old, state.ErrStale
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"sequences compared as texts", "Sequence/Higher", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if fmt.Sprint(cp.Sequence) < fmt.Sprint(old.LastSequence) && cp.Sequence != 0 {
				return old, state.ErrStale
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"an unordered save sets the last sequence to 0", "Sequence/Zero", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		rec.LastSequence = cp.Sequence
		return rec
	})},
	{"an unordered save refused after a sequence", "Sequence/Zero", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if cp.Sequence < old.LastSequence {
				return old, state.ErrStale
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"last sequence lost on Clear", "Sequence/OutlivesClear", clears(func(rec *record.Record) { rec.LastSequence = 0 })},
	{"a repeated save brings back what was cleared", "Sequence/OutlivesClear", func(b *bug) {
		b.admit = tolerant(func(old record.Record, cp state.Checkpoint) bool {
			return cp.Sequence == old.LastSequence && old.Status == record.Cleared
		})
	}},
	{"sequences as 32-bit floats", "Sequence/Greatest", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		rec.LastSequence = uint64(float32(rec.LastSequence))
		return rec
	})},
	{"one sequence for all keys", "Sequence/EachKeyItsOwn", func(b *bug) { b.admit = sharedSequence() }},
	{"last sequence lost on expiry", "Expiry/LastSequence", func(b *bug) {
		b.expire = func(r *record.Record) { r.Checkpoint, r.LastSequence = state.Checkpoint{}, 0 }
	}},
	{"a repeated save revives what expired", "Expiry/LastSequence", func(b *bug) {
		b.admit = tolerant(func(old record.Record, cp state.Checkpoint) bool {
			return cp.Sequence == old.LastSequence && old.Checkpoint.Token.IsZero()
		})
	}},
	{"last sequence lost on opening", "Reopen/LastSequence", reopens(func(e *kept) { e.rec.LastSequence = 0 })},
	{"a repeated save keeps what the first one brought", "Random/Saves", func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			rec, err := record.Admit(old, f, cp, now)
			if err == nil && cp.Sequence != 0 && cp.Sequence == old.LastSequence {
				rec.Checkpoint.Fingerprint = old.Checkpoint.Fingerprint
			}
			return rec, err
		}
	}},
	{"an unordered save after Clear forgets the sequence", "Random/Saves", admits(func(old, rec record.Record, cp state.Checkpoint) record.Record {
		if old.Status == record.Cleared && cp.Sequence == 0 {
			rec.LastSequence = 0
		}
		return rec
	})},

	// Clear.
	{"Clear does nothing", "Clear/NotFound", func(b *bug) {
		b.admitClear = func(old record.Record, _ state.Fence, _ time.Time) (record.Record, error) { return old, nil }
	}},
	{"Clear of an absent key is an error", "Clear/Absent", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			if old.Status != record.Saved {
				return old, state.ErrNotFound
			}
			return record.AdmitClear(old, f, now)
		}
	}},
	{"no save after Clear", "Clear/SaveAgain", func(b *bug) {
		b.litters = true
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			if old.Status == record.Cleared {
				return old, state.ErrStale
			}
			return record.Admit(old, f, cp, now)
		}
	}},
	{"something left after Clear", "Clear/LeavesNothing", func(b *bug) { b.litters = true }},
	{"expired after Clear", "Expiry/Clear", func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			rec, err := record.AdmitClear(old, f, now)
			if err == nil && old.Status == record.Saved && old.Checkpoint.Token.IsZero() {
				rec.Status = record.Saved
			}
			return rec, err
		}
	}},
	{"checkpoints lost on opening", "Reopen/Checkpoint", reopens(func(e *kept) { e.rec.Status = record.Never })},
}

func zeroForNone(rec *record.Record) (state.Checkpoint, error) {
	cp, err := rec.Load()
	if errors.Is(err, state.ErrNotFound) {
		return state.Checkpoint{}, nil
	}
	return cp, err
}

func none(err error) error {
	if err != nil {
		return state.ErrNotFound
	}
	return nil
}

func nothing(e *kept) error {
	if read(e) != nil {
		e.rec.Status = record.Never
	}
	return nil
}

// healed reads a damaged record once as damaged, and then as absent.
func healed() func(e *kept) error {
	seen := map[*kept]bool{}
	return func(e *kept) error {
		if seen[e] {
			return none(read(e))
		}
		seen[e] = true
		return read(e)
	}
}

func replace(err, from, to error) error {
	if errors.Is(err, from) {
		return to
	}
	return err
}

func same(cp state.Checkpoint) state.Checkpoint { return cp }

func keeps(spoil func(cp *state.Checkpoint)) func(b *bug) {
	return func(b *bug) {
		b.keep = func(cp state.Checkpoint) state.Checkpoint { cp = cp.Clone(); spoil(&cp); return cp }
	}
}

func gives(spoil func(cp *state.Checkpoint)) func(b *bug) {
	return func(b *bug) {
		b.give = func(cp state.Checkpoint) state.Checkpoint { cp = cp.Clone(); spoil(&cp); return cp }
	}
}

// admits changes what is kept after a save that the rule book takes.
func admits(spoil func(old, rec record.Record, cp state.Checkpoint) record.Record) func(b *bug) {
	return func(b *bug) {
		b.admit = func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
			rec, err := record.Admit(old, f, cp, now)
			if err == nil {
				rec = spoil(old, rec, cp)
			}
			return rec, err
		}
	}
}

func clears(spoil func(rec *record.Record)) func(b *bug) {
	return func(b *bug) {
		b.admitClear = func(old record.Record, f state.Fence, now time.Time) (record.Record, error) {
			rec, err := record.AdmitClear(old, f, now)
			if err == nil {
				spoil(&rec)
			}
			return rec, err
		}
	}
}

// tolerant takes saves that the rule book calls stale.
func tolerant(takes func(old record.Record, cp state.Checkpoint) bool) func(record.Record, state.Fence, state.Checkpoint, time.Time) (record.Record, error) {
	return func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
		if cp.Sequence != 0 && takes(old, cp) {
			old.LastSequence = 0
		}
		return record.Admit(old, f, cp, now)
	}
}

// writesAnyway refuses stale saves, and shows them all the same.
func writesAnyway() (func(*record.Record) (state.Checkpoint, error), func(record.Record, state.Fence, state.Checkpoint, time.Time) (record.Record, error)) {
	var written *state.Checkpoint
	load := func(rec *record.Record) (state.Checkpoint, error) {
		if written != nil {
			return *written, nil
		}
		return rec.Load()
	}
	return load, func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
		rec, err := record.Admit(old, f, cp, now)
		if errors.Is(err, state.ErrStale) {
			written = &cp
		}
		return rec, err
	}
}

// cached gives what was first loaded for a key, known by its fingerprint's beginning.
func cached() func(*record.Record) (state.Checkpoint, error) {
	var first *state.Checkpoint
	return func(rec *record.Record) (state.Checkpoint, error) {
		cp, err := rec.Load()
		if err == nil && first == nil {
			first = &cp
		}
		if first != nil {
			return *first, err
		}
		return cp, err
	}
}

func sharedSequence() func(record.Record, state.Fence, state.Checkpoint, time.Time) (record.Record, error) {
	var last uint64
	return func(old record.Record, f state.Fence, cp state.Checkpoint, now time.Time) (record.Record, error) {
		old.LastSequence = last
		rec, err := record.Admit(old, f, cp, now)
		if err == nil {
			last = rec.LastSequence
		}
		return rec, err
	}
}

// checks lets pass what it should refuse.
func checks(misses func(key string, cp state.Checkpoint) bool) func(b *bug) {
	return func(b *bug) {
		b.checkSave = func(key string, cp state.Checkpoint) error {
			if misses(key, cp) {
				return nil
			}
			return record.CheckSave(key, cp)
		}
	}
}

// refuses what it should take.
func refuses(what func(key string, cp state.Checkpoint) bool) func(b *bug) {
	return func(b *bug) {
		b.checkSave = func(key string, cp state.Checkpoint) error {
			if what(key, cp) {
				return state.ErrInvalid
			}
			return record.CheckSave(key, cp)
		}
	}
}

func keyed(to func(key string) string) func(b *bug) { return func(b *bug) { b.key = to } }

// reopens spoils every record whenever the data is opened.
func reopens(spoil func(e *kept)) func(b *bug) {
	return func(b *bug) {
		b.opened = func(d *disk) {
			for key, e := range d.recs {
				changed := *e
				spoil(&changed)
				d.recs[key] = &changed
			}
		}
	}
}
