package statetest

import (
	"encoding/json"
	"maps"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

var loadCases = []testCase{
	{"Load/NotFound", "For a key without one it returns ErrNotFound, never a zero Checkpoint and nil.", loadNotFound},
	{"Load/Token", "A Checkpoint states that everything up to and including its resume token has been delivered. A Store keeps one checkpoint for each key, across crashes.", loadToken},
	{"Load/StartAfter", "StartAfter means that the stream can be opened only with startAfter, not with resumeAfter, because Token is that of an invalidate event.", loadStartAfter},
	{"Load/ClusterTime", "ClusterTime is the time of the event, by the cluster's clock.", loadClusterTime},
	{"Load/SavedAt", "SavedAt is the time of the save, with a precision of milliseconds. A store fills it in if it is zero.", loadSavedAt},
	{"Load/Sequence", "Sequence numbers the saves of one key.", loadSequence},
	{"Load/Fingerprint", "Fingerprint identifies the stream that Token belongs to: deployment, namespaces, filter. Its format is the source's; it is UTF-8.", loadFingerprint},
	{"Load/Epoch", "A store fills it in and ignores the value that it is given.", loadEpoch},
	{"Load/Extra", "Extra holds small named JSON documents that are saved in the same write, because they must never be newer or older than the token. Not every store keeps white space outside their strings.", loadExtra},
	{"Load/TokenAlone", "All fields except Token may be zero.", loadTokenAlone},
	{"Load/NoSharedMemory", "A Store keeps no reference to the memory of its arguments (Checkpoint.Extra), and returns none to its own.", loadNoSharedMemory},
}

func loadNotFound(t *trial) {
	s := t.store()
	for _, name := range []string{"a", "a/b", "b"} {
		key := t.key(name)
		cp, err := s.Load(t.ctx, key)
		t.want(err, state.ErrNotFound, "Load(%q), never saved", key)
		if !cp.Equal(state.Checkpoint{}) {
			t.errorf("Load(%q) gave a checkpoint together with the error", key)
		}
	}
	t.save(s, t.key("a"), sample(1))
	t.wantNone(s, t.key("b"))
}

// roundtrip saves cp and wants it back, from another handle too.
func roundtrip(t *trial, key string, cp state.Checkpoint) {
	s := t.store()
	t.save(s, key, cp)
	t.wantLoad(s, key, cp, 0)
	if len(t.handles) < 2 {
		t.open()
	}
	t.wantLoad(t.handles[1], key, cp, 0)
}

func loadToken(t *trial) {
	for name, token := range map[string]resumetoken.Token{
		"hex":      token(1),
		"typeBits": typedToken(),
		"binary":   binaryToken(),
		"64 KB":    bigToken(2, 32<<10),
		"1 MB":     bigToken(3, 512<<10),
		"small":    mustToken(bson.D{{Key: "_data", Value: ""}}),
		"odd text": mustToken(bson.D{{Key: "_data", Value: "\x00\n\r\t\"\\</script>&\u2028\u00e9\U0001F35D"}}),
	} {
		roundtrip(t, t.key(name), state.Checkpoint{Token: token, SavedAt: time.UnixMilli(1)})
	}
	// A later, shorter one takes the whole place of a longer one.
	key := t.key("1 MB")
	roundtrip(t, key, sample(4))
	roundtrip(t, key, state.Checkpoint{Token: bigToken(5, 300<<10), SavedAt: time.UnixMilli(5)})
}

func loadStartAfter(t *trial) {
	for _, startAfter := range []bool{true, false, true} {
		roundtrip(t, t.key("k"), state.Checkpoint{Token: token(1), StartAfter: startAfter, SavedAt: time.UnixMilli(1)})
	}
}

func loadClusterTime(t *trial) {
	for _, ct := range []bson.Timestamp{{T: 1_700_000_000, I: 3}, {T: 1<<32 - 1, I: 1<<32 - 1}, {T: 0, I: 1}, {T: 1, I: 0}, {}} {
		roundtrip(t, t.key("k"), state.Checkpoint{Token: token(1), ClusterTime: ct, SavedAt: time.UnixMilli(1)})
	}
}

func loadSavedAt(t *trial) {
	// A store's clock may be another machine's.
	const skew = 10 * time.Minute
	s, key := t.store(), t.key("now")
	cp := sample(1)
	cp.SavedAt = time.Time{}
	before := time.Now()
	t.save(s, key, cp)
	after := time.Now()
	got, err := s.Load(t.ctx, key)
	if err != nil {
		t.fatalf("Load: %v", err)
	}
	if at := got.SavedAt; at.Before(before.Add(-skew)) || at.After(after.Add(skew)) {
		t.errorf("SavedAt was zero when the checkpoint was saved, and is %v now; it was saved at %v", at, after)
	}
	if at := got.SavedAt; !at.Equal(at.Truncate(time.Millisecond)) {
		t.errorf("SavedAt is %v, not whole milliseconds", at)
	}
	zone := time.FixedZone("", 5*3600+45*60)
	for _, at := range []time.Time{
		time.UnixMilli(1_794_000_000_123), time.Date(2026, 11, 23, 6, 31, 0, 999_999_999, zone),
		time.UnixMilli(1), time.Date(2100, 2, 28, 23, 59, 59, 1_000_000, time.UTC),
	} {
		cp.SavedAt = at
		roundtrip(t, t.key("given"), cp)
	}
}

func loadSequence(t *trial) {
	for _, seq := range []uint64{1, 2, 1 << 31, 1 << 32, 1<<53 - 2, state.MaxSequence} {
		roundtrip(t, t.key("k"), numbered(1, seq))
	}
}

func loadFingerprint(t *trial) {
	for _, f := range []string{"f", "", "rs0/shop.orders,shop.users?x=1&y=<2>", "{\"json\":\"\\u0000\"}", "zwölf Büroklammern\n\x00\U0001F35D"} {
		cp := sample(1)
		cp.Fingerprint = f
		roundtrip(t, t.key("k"), cp)
	}
}

func loadEpoch(t *trial) {
	cp := sample(1)
	cp.Epoch = 4711
	roundtrip(t, t.key("k"), cp)
}

func loadExtra(t *trial) {
	key := t.key("k")
	docs := map[string]json.RawMessage{
		"gaps":     json.RawMessage(`[{"from":"a","to":"b","why":"<&>\u2028 \"quoted\""}, {}]`),
		"a.b/$c é": json.RawMessage(`{"deep":{"deeper":[1,-0.5,1e3,9223372036854775807,18446744073709551615,null,true]}}`),
		"null":     json.RawMessage(`null`),
		"string":   json.RawMessage(`"\u0000\n\\"`),
		"":         json.RawMessage(`0`),
	}
	cp := sample(1)
	cp.Extra = maps.Clone(docs)
	roundtrip(t, key, cp)
	delete(cp.Extra, "gaps")
	roundtrip(t, key, cp)
	for _, none := range []map[string]json.RawMessage{{}, nil} {
		cp.Extra = none
		roundtrip(t, key, cp)
	}
}

func loadTokenAlone(t *trial) {
	s, key := t.store(), t.key("k")
	t.save(s, key, sample(1)) // nothing of it may shine through
	cp, err := state.At(token(2).Raw())
	if err != nil {
		t.fatalf("At: %v", err)
	}
	for _, cp := range []state.Checkpoint{{Token: token(3)}, cp} {
		t.save(s, key, cp)
		got, err := s.Load(t.ctx, key)
		if err != nil {
			t.fatalf("Load: %v", err)
		}
		cp.SavedAt = got.SavedAt
		if d := differ(got, cp); d != "" {
			t.errorf("Load: %s", d)
		}
	}
}

func loadNoSharedMemory(t *trial) {
	s, key := t.store(), t.key("k")
	given := sample(1)
	given.Extra = map[string]json.RawMessage{"n": json.RawMessage(`"abc"`)}
	want := given.Clone()
	t.save(s, key, given)
	spoil(given)
	t.wantLoad(s, key, want, 0)
	if t.failed {
		t.errorf("the caller changed the checkpoint after Save had returned, and the stored one changed with it")
		return
	}
	got, err := s.Load(t.ctx, key)
	if err != nil {
		t.fatalf("Load: %v", err)
	}
	spoil(got)
	t.wantLoad(s, key, want, 0)
	if t.failed {
		t.errorf("a caller changed what Load had given it, and the stored checkpoint changed with it")
	}
}

func spoil(cp state.Checkpoint) {
	for name, doc := range cp.Extra {
		for i := range doc {
			doc[i] = '1'
		}
		cp.Extra[name+"x"] = doc
	}
}
