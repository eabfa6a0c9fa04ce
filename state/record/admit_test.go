package record

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

var t0 = time.Date(2026, 11, 23, 0, 46, 0, 999999, time.UTC)

func tokens(t testing.TB, n int) []resumetoken.Token {
	var toks []resumetoken.Token
	for i := range n {
		toks = append(toks, token(t, "n", int32(i)))
	}
	return toks
}

// leased is a record under a lease of a minute from t0.
func leased() Record {
	return Record{Epoch: 3, Nonce: "n", Owner: "me", LeaseUntil: t0.Add(time.Minute)}
}

func TestAdmitSequence(t *testing.T) {
	tok := tokens(t, 2)
	saved := func(seq, last uint64) Record {
		return Record{Status: Saved, Checkpoint: state.Checkpoint{Token: tok[0], Sequence: seq}, LastSequence: last}
	}
	for name, c := range map[string]struct {
		old  Record
		seq  uint64
		tok  resumetoken.Token
		want error
		last uint64
	}{
		"first":                    {Record{}, 7, tok[0], nil, 7},
		"next":                     {saved(7, 7), 8, tok[1], nil, 8},
		"leap":                     {saved(7, 7), state.MaxSequence, tok[1], nil, state.MaxSequence},
		"older":                    {saved(7, 7), 6, tok[0], state.ErrStale, 0},
		"repeated":                 {saved(7, 7), 7, tok[0], nil, 7},
		"the same, another token":  {saved(7, 7), 7, tok[1], state.ErrStale, 0},
		"unordered":                {saved(7, 7), 0, tok[1], nil, 7},
		"older after an unordered": {saved(0, 7), 6, tok[1], state.ErrStale, 0},
		"repeated after unordered": {saved(0, 7), 7, tok[0], state.ErrStale, 0},
		"repeated after clear":     {Record{Status: Cleared, LastSequence: 7}, 7, tok[0], state.ErrStale, 0},
		"older after clear":        {Record{Status: Cleared, LastSequence: 7}, 6, tok[0], state.ErrStale, 0},
		"next after clear":         {Record{Status: Cleared, LastSequence: 7}, 8, tok[0], nil, 8},
		"repeated after expiry":    {Record{Status: Saved, Checkpoint: state.Checkpoint{Sequence: 7}, LastSequence: 7}, 7, tok[0], state.ErrStale, 0},
	} {
		got, err := Admit(c.old, state.Fence{}, state.Checkpoint{Token: c.tok, Sequence: c.seq}, t0)
		switch {
		case !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", name, err, c.want)
		case err == nil && (got.Checkpoint.Token != c.tok || got.Checkpoint.Sequence != c.seq || got.LastSequence != c.last || got.Status != Saved):
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// What a store fills in: SavedAt where it is missing, in milliseconds, and the epoch.
func TestAdmitFillsIn(t *testing.T) {
	tok := token(t)
	given := time.Date(2020, 1, 2, 3, 4, 5, 6789123, time.FixedZone("", 3600))
	rec, err := Admit(leased(), state.Fence{Epoch: 3, Nonce: "n"}, state.Checkpoint{Token: tok, Epoch: 99, SavedAt: given}, t0)
	if err != nil || rec.Checkpoint.Epoch != 3 || !rec.Checkpoint.SavedAt.Equal(given.Truncate(time.Millisecond)) || rec.Checkpoint.SavedAt.Location() != time.UTC {
		t.Errorf("got %+v, %v", rec.Checkpoint, err)
	}
	rec, err = Admit(Record{}, state.Fence{}, state.Checkpoint{Token: tok, Epoch: 99}, t0)
	if err != nil || rec.Checkpoint.Epoch != 0 || rec.Checkpoint.SavedAt != t0.Truncate(time.Millisecond) {
		t.Errorf("got %+v, %v", rec.Checkpoint, err)
	}
}

func TestAdmitFence(t *testing.T) {
	cp := state.Checkpoint{Token: token(t)}
	over := leased()
	over.LeaseUntil = t0
	free := Record{Epoch: 3}
	for name, c := range map[string]struct {
		old   Record
		f     state.Fence
		want  error
		epoch uint64
	}{
		"the owner":                  {leased(), state.Fence{Epoch: 3, Nonce: "n"}, nil, 3},
		"another epoch":              {leased(), state.Fence{Epoch: 2, Nonce: "n"}, state.ErrFenced, 0},
		"a later epoch":              {leased(), state.Fence{Epoch: 4, Nonce: "n"}, state.ErrFenced, 0},
		"another nonce":              {leased(), state.Fence{Epoch: 3, Nonce: "m"}, state.ErrFenced, 0},
		"half a fence":               {free, state.Fence{Epoch: 3}, state.ErrFenced, 0},
		"never leased":               {Record{}, state.Fence{Epoch: 3, Nonce: "n"}, state.ErrFenced, 0},
		"released":                   {free, state.Fence{Epoch: 3, Nonce: "n"}, state.ErrFenced, 0},
		"ran out, and nobody took":   {over, state.Fence{Epoch: 3, Nonce: "n"}, nil, 3},
		"unfenced, live":             {leased(), state.Fence{}, state.ErrLeaseHeld, 0},
		"unfenced, ran out":          {over, state.Fence{}, nil, 4},
		"unfenced, released":         {free, state.Fence{}, nil, 3},
		"unfenced, was never leased": {Record{}, state.Fence{}, nil, 0},
	} {
		saved, err := Admit(c.old, c.f, cp, t0)
		cleared, err2 := AdmitClear(c.old, c.f, t0)
		if !errors.Is(err, c.want) || !errors.Is(err2, c.want) {
			t.Errorf("%s: Admit %v, AdmitClear %v, want %v", name, err, err2, c.want)
		}
		if err == nil && (saved.Epoch != c.epoch || cleared.Epoch != c.epoch) {
			t.Errorf("%s: epoch %d and %d, want %d", name, saved.Epoch, cleared.Epoch, c.epoch)
		}
		var held *state.HeldError
		if c.want == state.ErrLeaseHeld && (!errors.As(err, &held) || held.Owner != "me" || !held.Until.Equal(t0.Add(time.Minute))) {
			t.Errorf("%s: %v doesn't say who and until when", name, err)
		}
	}
	// The owner that was overtaken is out.
	rec, _ := Admit(over, state.Fence{}, cp, t0)
	if _, err := Admit(rec, state.Fence{Epoch: 3, Nonce: "n"}, cp, t0); !errors.Is(err, state.ErrFenced) {
		t.Errorf("the owner whose lease ran out writes over an unfenced save: %v", err)
	}
	if _, err := AdmitRenew(rec, state.Fence{Epoch: 3, Nonce: "n"}, time.Minute, t0); !errors.Is(err, state.ErrFenced) {
		t.Errorf("and renews: %v", err)
	}
}

func TestAdmitAcquire(t *testing.T) {
	ask := state.LeaseRequest{Owner: "you", Nonce: "m", TTL: time.Minute}
	over := leased()
	over.LeaseUntil = t0
	steal := ask
	steal.Steal = true
	for name, c := range map[string]struct {
		old  Record
		r    state.LeaseRequest
		want state.Fence // zero: held
	}{
		"never leased":           {Record{}, ask, state.Fence{Epoch: 1, Nonce: "m"}},
		"released":               {Record{Epoch: 3}, ask, state.Fence{Epoch: 4, Nonce: "m"}},
		"held":                   {leased(), ask, state.Fence{}},
		"held by my name":        {leased(), state.LeaseRequest{Owner: "me", Nonce: "m", TTL: time.Minute}, state.Fence{}},
		"ran out":                {over, ask, state.Fence{Epoch: 4, Nonce: "m"}},
		"stolen":                 {leased(), steal, state.Fence{Epoch: 4, Nonce: "m"}},
		"my nonce":               {leased(), state.LeaseRequest{Nonce: "n", TTL: time.Hour}, state.Fence{Epoch: 3, Nonce: "n"}},
		"my nonce, ran out":      {over, state.LeaseRequest{Nonce: "n", TTL: time.Hour}, state.Fence{Epoch: 3, Nonce: "n"}},
		"my nonce, and stealing": {leased(), state.LeaseRequest{Nonce: "n", TTL: time.Hour, Steal: true}, state.Fence{Epoch: 3, Nonce: "n"}},
	} {
		rec, g, err := AdmitAcquire(c.old, c.r, t0)
		if c.want.IsZero() {
			if !errors.Is(err, state.ErrLeaseHeld) || !strings.Contains(err.Error(), `"me"`) {
				t.Errorf("%s: %v, want ErrLeaseHeld with the name", name, err)
			}
			continue
		}
		if err != nil || g.Fence != c.want || rec.Fence() != c.want || !rec.LeaseUntil.Equal(t0.Add(c.r.TTL)) {
			t.Errorf("%s: got %+v and %+v, %v", name, g, rec, err)
		}
		if !errors.Is(g.LoadErr, state.ErrNotFound) {
			t.Errorf("%s: the grant's error is %v", name, g.LoadErr)
		}
	}
	with := Record{Status: Saved, Checkpoint: state.Checkpoint{Token: token(t), Sequence: 5}, LastSequence: 6}
	if _, g, err := AdmitAcquire(with, ask, t0); err != nil || g.LoadErr != nil || g.Checkpoint.Sequence != 5 || g.LastSequence != 6 {
		t.Errorf("with a checkpoint: %+v, %v", g, err)
	}
	with.Checkpoint.Token = resumetoken.Token{}
	if _, g, err := AdmitAcquire(with, ask, t0); err != nil || g.LoadErr != state.ErrExpired || g.LastSequence != 6 {
		t.Errorf("with an expired one: %+v, %v", g, err)
	}
	for name, r := range map[string]state.LeaseRequest{
		"no nonce":            {TTL: time.Minute},
		"shorter than a":      {Nonce: "m", TTL: time.Millisecond - 1},
		"owner is not UTF-8":  {Nonce: "m", TTL: time.Minute, Owner: "\xff"},
		"nonce or owner is n": {Nonce: "\xff", TTL: time.Minute},
	} {
		if _, _, err := AdmitAcquire(Record{}, r, t0); !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdmitRenewAndRelease(t *testing.T) {
	mine, other := state.Fence{Epoch: 3, Nonce: "n"}, state.Fence{Epoch: 3, Nonce: "m"}
	if rec, err := AdmitRenew(leased(), mine, time.Hour, t0); err != nil || !rec.LeaseUntil.Equal(t0.Add(time.Hour)) {
		t.Errorf("renewed: %+v, %v", rec, err)
	}
	for _, f := range []state.Fence{other, {}, {Epoch: 4, Nonce: "n"}} {
		if _, err := AdmitRenew(leased(), f, time.Hour, t0); !errors.Is(err, state.ErrFenced) {
			t.Errorf("renewed under %v: %v", f, err)
		}
		if rec := AdmitRelease(leased(), f); rec.Fence() != mine {
			t.Errorf("released under %v", f)
		}
	}
	if _, err := AdmitRenew(Record{Epoch: 0}, state.Fence{}, time.Hour, t0); !errors.Is(err, state.ErrFenced) {
		t.Errorf("renewed nothing: %v", err)
	}
	if _, err := AdmitRenew(leased(), mine, 0, t0); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("renewed for no time: %v", err)
	}
	rec := AdmitRelease(leased(), mine)
	if rec.Epoch != 3 || rec.Live(t0) || !rec.Fence().IsZero() || rec.Owner != "" {
		t.Errorf("released: %+v", rec)
	}
}

func TestAdmitClear(t *testing.T) {
	saved, _ := Admit(Record{}, state.Fence{}, state.Checkpoint{Token: token(t)}, t0)
	rec, err := AdmitClear(saved, state.Fence{}, t0)
	if err != nil || rec.Status != Cleared || !rec.IsEmpty() || !isZero(&rec.Checkpoint) {
		t.Errorf("a key with no history leaves %+v, %v", rec, err)
	}
	if rec, err := AdmitClear(Record{}, state.Fence{}, t0); err != nil || rec.Status != Never {
		t.Errorf("clearing an absent key: %+v, %v", rec, err)
	}
	rec, err = AdmitClear(leased(), state.Fence{Epoch: 3, Nonce: "n"}, t0)
	if err != nil || !rec.Live(t0) || rec.IsEmpty() {
		t.Errorf("the lease is not kept: %+v, %v", rec, err)
	}
	if _, err := rec.Load(); err != state.ErrNotFound {
		t.Errorf("Load: %v", err)
	}
}

func TestRecordIsEmpty(t *testing.T) {
	for _, r := range []Record{{Status: Saved}, {Epoch: 1}, {LastSequence: 1}, {Unknown: full(t).Unknown}} {
		if r.IsEmpty() {
			t.Errorf("%+v is empty", r)
		}
	}
}

// Over any history: the epoch and the last sequence never fall, no two grants
// have one fence, and the pure functions leave what they are given alone.
func TestAdmitHistories(t *testing.T) {
	toks := tokens(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		var rec Record
		now := t0
		grants := map[state.Fence]string{}
		fences := []state.Fence{{}}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "passes")) * time.Second)
			f := rapid.SampledFrom(fences).Draw(t, "fence")
			before := rec
			var after Record
			var err error
			op := rapid.SampledFrom([]string{"save", "clear", "acquire", "renew", "release"}).Draw(t, "op")
			switch op {
			case "save":
				cp := state.Checkpoint{Token: rapid.SampledFrom(toks).Draw(t, "token"), Sequence: rapid.Uint64Range(0, 9).Draw(t, "seq")}
				after, err = Admit(rec, f, cp, now)
				if err == nil && rec.Live(now) && f != rec.Fence() {
					t.Fatalf("step %d: a save by %v went through while %v holds a live lease", i, f, rec.Fence())
				}
			case "clear":
				after, err = AdmitClear(rec, f, now)
			case "renew":
				after, err = AdmitRenew(rec, f, 30*time.Second, now)
			case "release":
				after = AdmitRelease(rec, f)
			case "acquire":
				var g state.Grant
				nonce := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "nonce"))
				after, g, err = AdmitAcquire(rec, state.LeaseRequest{Nonce: nonce, TTL: 30 * time.Second, Steal: rapid.Bool().Draw(t, "steal")}, now)
				if err != nil {
					break
				}
				if _, known := grants[g.Fence]; known && rec.Fence() != g.Fence {
					t.Fatalf("step %d: fence %v was granted a second time", i, g.Fence)
				}
				grants[g.Fence] = nonce
				fences = append(fences, g.Fence)
			}
			if before.Epoch != rec.Epoch || before.Checkpoint.Token != rec.Checkpoint.Token || !sameDocs(before.Unknown, rec.Unknown) {
				t.Fatalf("step %d: %s changed the record it was given", i, op)
			}
			if err != nil {
				continue
			}
			if after.Epoch < rec.Epoch || after.LastSequence < rec.LastSequence {
				t.Fatalf("step %d: after %s by %v, epoch %d → %d, last sequence %d → %d", i, op, f, rec.Epoch, after.Epoch, rec.LastSequence, after.LastSequence)
			}
			rec = after
		}
	})
}
