package filestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// version1 are the files that version 1 of the format has left, and what is in them.
// They are never written again: every later version must read them.
var version1 = []struct {
	key   string
	saved int // when, as of numbered
	token bson.D
	want  record.Record // but for these
}{
	{"shop/Orders", 3,
		bson.D{{Key: "_data", Value: "8269D1E800000000022B0229296E04"}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{0x40, 0x10}}}},
		record.Record{
			Status: record.Saved, LastSequence: 18204, Epoch: 2, Nonce: "fedcba9876543210", Owner: "host-1",
			Checkpoint: state.Checkpoint{Sequence: 18204, Epoch: 2, Fingerprint: "rs0/shop.orders",
				Extra: map[string]json.RawMessage{"gap": json.RawMessage(`{"from":"a","to":"b"}`)}},
		}},
	{"plain", 2,
		bson.D{{Key: "_data", Value: "826AEE4482000000022B0229296E04"}},
		record.Record{Status: record.Saved, Checkpoint: state.Checkpoint{Fingerprint: "rs0/shop.orders",
			ClusterTime: bson.Timestamp{T: 1794000002, I: 2}}}},
	{"cleared", 0, nil, record.Record{Status: record.Cleared, LastSequence: 7}},
	{strings.Repeat("long ", 60), 9,
		bson.D{{Key: "_data", Value: "826AEE4489000000092B0229296E04"}},
		record.Record{Status: record.Saved, LastSequence: 9, Checkpoint: state.Checkpoint{Sequence: 9,
			Fingerprint: "rs0/shop.orders", ClusterTime: bson.Timestamp{T: 1794000009, I: 9}}}},
}

func TestVersion1IsRead(t *testing.T) {
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "version1"))))
	s, logged := openTest(t, dir)
	for _, v := range version1 {
		f, err := s.readShared(t.Context(), v.key, s.path(v.key))
		must(t, err)
		want := v.want
		if v.token != nil {
			raw, err := bson.Marshal(v.token)
			must(t, err)
			want.Checkpoint.Token, err = resumetoken.New(raw)
			must(t, err)
			want.Checkpoint.SavedAt = numbered(t, v.saved).SavedAt
		}
		if !like(want)(f.rec) {
			t.Errorf("%.20q holds %+v, want %+v", v.key, f.rec, want)
		}
		// And saving continues from there.
		g := acquire(t, s, v.key, "the next")
		if g.Fence.Epoch != want.Epoch+1 || g.LastSequence != want.LastSequence {
			t.Errorf("%.20q is granted with epoch %d and sequence %d", v.key, g.Fence.Epoch, g.LastSequence)
		}
		must(t, s.SaveFenced(t.Context(), v.key, g.Fence, numbered(t, 20000)))
		wantToken(t, s, v.key, numbered(t, 20000))
	}
	if logged.Len() > 0 {
		t.Errorf("the log says %q", logged)
	}
	names, err := filepath.Glob(filepath.Join("testdata", "version1", "*"+dataSuffix))
	must(t, err)
	if len(names) != len(version1) {
		t.Errorf("there are %d files, and %d are tested", len(names), len(version1))
	}
}

// A file that a newer version has written, all of it or only the last line, is refused
// by name and left as it is. If the older line is the newer version's, which went back,
// it doesn't count.
func TestNewerVersionIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []int // which are of version 2; line 0 is in force
		err   error
	}{{"both", []int{0, 1}, state.ErrNewer}, {"the one in force", []int{0}, state.ErrNewer}, {"the other", []int{1}, nil}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			savedFile(t, dir, "k")
			s, _ := openTest(t, dir)
			path := s.path("k")
			before, err := os.ReadFile(path)
			must(t, err)
			must(t, makeNewer(path))
			newer, err := os.ReadFile(path)
			must(t, err)
			text := slices.Clone(before)
			for _, line := range c.lines {
				copy(text[line*slotUnit:(line+1)*slotUnit], newer[line*slotUnit:])
			}
			must(t, os.WriteFile(path, text, 0o600))
			_, err = s.Load(t.Context(), "k")
			if c.err == nil {
				must(t, err)
				wantToken(t, s, "k", numbered(t, 2))
				return
			}
			parts := []string{"version 2", "reads up to 1", path}
			want(t, err, c.err, parts...)
			want(t, s.Save(t.Context(), "k", plain(t, 3)), c.err, parts...)
			want(t, s.Clear(t.Context(), "k"), c.err, parts...)
			_, err = s.Acquire(t.Context(), "k", request("first"))
			want(t, err, c.err, parts...)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, text) {
				t.Errorf("the file is not as it was (%v)", err)
			}
		})
	}
}

// What the package's documentation tells a person to type.
func TestJQ(t *testing.T) {
	jq, err := exec.LookPath("jq")
	if err != nil {
		t.Skip("jq is not installed")
	}
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	_, line, ok := strings.Cut(string(doc), "//\tjq ")
	if line, _, _ = strings.Cut(line, "\n"); !ok || !strings.HasSuffix(line, " state/shop.json") {
		t.Fatalf("doc.go has no line with jq and state/shop.json")
	}
	dir := t.TempDir()
	s, _ := openTest(t, filepath.Join(dir, "state"))
	for n := 1; n <= 3; n++ { // both slots have been in force
		must(t, s.Save(t.Context(), "shop", numbered(t, n)))
		cmd := exec.Command("/bin/sh", "-c", "'"+jq+"' "+line)
		cmd.Dir = dir
		out, err := cmd.Output()
		must(t, err)
		var says struct {
			Key         string
			Sequence    int
			SavedAt     string
			ClusterTime struct{ T, I uint32 }
			Token       struct {
				Data string `json:"_data"`
			}
		}
		must(t, json.Unmarshal(out, &says))
		cp := numbered(t, n)
		if says.Key != "shop" || says.Sequence != n || says.SavedAt != cp.SavedAt.Format("2006-01-02T15:04:05.000Z") ||
			says.Token.Data == "" || !strings.Contains(string(cp.Token.Raw()), says.Token.Data) || says.ClusterTime.I != uint32(n) {
			t.Errorf("of checkpoint %d, jq says %s", n, out)
		}
	}
}

// A token of 16 MB takes memory as long as it is the checkpoint, and no longer.
func TestLargeTokenIsShed(t *testing.T) {
	s, _ := openTest(t, t.TempDir())
	g := acquire(t, s, "k", "first")
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
	memory := func() int {
		runtime.GC() // one, which what a sync.Pool holds survives
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := memory()
	must(t, s.SaveFenced(t.Context(), "k", g.Fence, numberedOf(t, 2, 16<<20)))
	if got, err := s.Load(t.Context(), "k"); err != nil || got.Token.Len() < 16<<20 {
		t.Fatalf("the token comes back with %d bytes (%v)", got.Token.Len(), err)
	}
	for n := 3; n <= 5; n++ { // in place, in slots of 20 MB
		must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, n)))
	}
	if grown := memory() - before; grown > 4<<20 {
		t.Errorf("after a token of 16 MB, %d MB more are in use", grown>>20)
	}
	wantToken(t, s, "k", numbered(t, 5))
}

// Keys that differ only in case, or in how an accent is written, are different keys on a
// file system that takes their names for the same.
func TestFoldingFileSystem(t *testing.T) {
	m := newSimFS(nil)
	m.folds = true
	s, _ := openOn(t, m, simStore)
	keys := []string{"shop", "Shop", "SHOP", "sh\u00f6p", "sho\u0308p", "SH\u00d6P", "stra\u00dfe", "STRASSE", "k", "\u212a", "con", "CON", ".x", ".X"}
	for i, key := range keys {
		must(t, s.Save(t.Context(), key, numbered(t, i+1)))
	}
	g := acquire(t, s, "Shop", "first")
	must(t, s.SaveFenced(t.Context(), "Shop", g.Fence, numbered(t, 100)))
	must(t, s.Forget(t.Context(), "SHOP"))
	for i, key := range keys {
		switch key {
		case "Shop":
			wantToken(t, s, key, numbered(t, 100))
		case "SHOP":
			_, err := s.Load(t.Context(), key)
			want(t, err, state.ErrNotFound)
		default:
			wantToken(t, s, key, numbered(t, i+1))
			must(t, s.Save(t.Context(), key, numbered(t, i+200))) // no lease is in its way
		}
	}
	n := 0
	for e, err := range s.List(t.Context(), "") {
		must(t, errors.Join(err, e.LoadErr))
		if !slices.Contains(keys, e.Key) {
			t.Errorf("a key %q is listed", e.Key)
		}
		n++
	}
	if n != len(keys)-1 {
		t.Errorf("%d keys are listed, want %d", n, len(keys)-1)
	}
	for name := range m.dir.now {
		if strings.ToLower(name) != name {
			t.Errorf("the name %q has large letters", name)
		}
	}
}

// A slot of a leased file that is damaged doesn't take the epoch with it.
func TestDamageKeepsEpoch(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	for n := 1; n <= 3; n++ {
		g := acquire(t, s, "k", "first")
		if n == 2 {
			must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 1)))
		}
		if n == 3 {
			break
		}
		must(t, s.Release(t.Context(), "k", g.Fence))
	}
	must(t, s.Close())
	for saves := range 3 {
		s, _ := openTest(t, dir)
		text, err := os.ReadFile(s.path("k"))
		must(t, err)
		for slot := range 2 {
			for _, how := range []byte{0, ' ', 'x'} {
				damaged := slices.Clone(text)
				half := damaged[slot*len(text)/2 : (slot+1)*len(text)/2]
				copy(half[100:], bytes.Repeat([]byte{how}, len(half)-100))
				f, err := judge(s.path("k"), "k", damaged)
				if err != nil || f.rec.Epoch != uint64(3+saves) {
					t.Errorf("after %d saves, line %d filled with %q: epoch %d (%v)", saves, slot+1, how, f.rec.Epoch, err)
				}
			}
		}
		g := acquire(t, s, "k", fmt.Sprint("owner ", saves))
		for n := range saves {
			must(t, s.SaveFenced(t.Context(), "k", g.Fence, numbered(t, 10*(saves+1)+n)))
		}
		must(t, s.Release(t.Context(), "k", g.Fence))
		must(t, s.Close())
	}
}
