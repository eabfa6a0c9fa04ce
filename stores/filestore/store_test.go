package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

func TestContract(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		dir := filepath.Join(t.TempDir(), "state")
		damages := 0
		return statetest.Harness{
			Open: func(context.Context) (state.Store, error) {
				return Open(dir, &Options{Logger: slog.New(slog.DiscardHandler)})
			},
			Damage: func(_ context.Context, key string) error {
				damages++
				return damage(filepath.Join(dir, stem(key)+dataSuffix), damages)
			},
			Newer: func(_ context.Context, key string) error {
				return makeNewer(filepath.Join(dir, stem(key)+dataSuffix))
			},
			Break:   func(context.Context) error { return os.Rename(dir, dir+".gone") },
			Restore: func(context.Context) error { return os.Rename(dir+".gone", dir) },
			Stored: func(context.Context) (int, error) {
				files, err := filepath.Glob(filepath.Join(dir, "*"+dataSuffix))
				return len(files), err
			},
		}
	})
}

// damage makes a file unreadable, in one of several ways.
func damage(path string, way int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch way % 4 {
	case 0:
		text = nil
	case 1:
		text = text[:len(text)/2-100]
	case 2:
		text = bytes.ReplaceAll(text, []byte(`"savedAt":"20`), []byte(`"savedAt":"19`))
		text = bytes.ReplaceAll(text, []byte(`"epoch":`), []byte(`"Epoch":`))
	case 3:
		text = bytes.Repeat([]byte("{\n"), len(text)/2)
	}
	return os.WriteFile(path, text, 0o600)
}

// makeNewer writes a file as version 2 of the format would, which keeps the ends of the
// lines as they are.
func makeNewer(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n := len(text) / 2
	var out []byte
	for _, half := range [][]byte{text[:n], text[n:]} {
		sl := readSlot(half)
		if sl.err != nil {
			return sl.err
		}
		line := bytes.Replace(sl.body, []byte(`{"version":1`), []byte(`{"version":2`), 1)
		line = fmt.Appendf(line, `,"checksum":"crc32c:%08x@%d"}`, crc(line), sl.mark.generation)
		out = append(out, pad(line, n)...)
	}
	return os.WriteFile(path, out, 0o600)
}

// The rest of the tests make their stores and checkpoints with these.

func openTest(t *testing.T, dir string) (*Store, *logBuffer) {
	t.Helper()
	return openOn(t, osFS{}, dir)
}

func openOn(t *testing.T, sys fsys, dir string) (*Store, *logBuffer) {
	t.Helper()
	logged := new(logBuffer)
	s, err := open(sys, dir, &Options{Logger: slog.New(slog.NewTextHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, logged
}

type logBuffer struct{ bytes.Buffer }

func (l *logBuffer) has(text string) bool { return strings.Contains(l.String(), text) }

// numbered is a checkpoint with the sequence n and a token of its own.
func numbered(t testing.TB, n int) state.Checkpoint {
	return numberedOf(t, n, 0)
}

// numberedOf is a numbered checkpoint whose token is size bytes longer.
func numberedOf(t testing.TB, n, size int) state.Checkpoint {
	t.Helper()
	data := fmt.Sprintf("82%08X%08X2B0229296E04%s", 1794000000+n, n, strings.Repeat("A", size))
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := state.At(raw)
	if err != nil {
		t.Fatal(err)
	}
	cp.Sequence = uint64(n)
	cp.Fingerprint = "rs0/shop.orders"
	cp.SavedAt = time.UnixMilli(1794000000000 + int64(n)).UTC()
	return cp
}

// plain is a checkpoint without a sequence, as programs have that only keep a token.
func plain(t testing.TB, n int) state.Checkpoint {
	cp := numbered(t, n)
	cp.Sequence = 0
	return cp
}

func request(owner string) state.LeaseRequest {
	return state.LeaseRequest{Owner: owner, Nonce: state.NewNonce(), TTL: time.Minute}
}

func acquire(t *testing.T, s *Store, key, owner string) state.Grant {
	t.Helper()
	g, err := s.Acquire(t.Context(), key, request(owner))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want checks what an error is, and that its text has all of some parts.
func want(t *testing.T, err, target error, parts ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %q, and doesn't say %q", err, part)
		}
	}
}

// wantToken checks which checkpoint a key has.
func wantToken(t *testing.T, s *Store, key string, cp state.Checkpoint) {
	t.Helper()
	got, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got.Token != cp.Token {
		t.Fatalf("the checkpoint is that of sequence %d, want %d", got.Sequence, cp.Sequence)
	}
}

func TestMustExist(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if s, err := Open(dir, &Options{MustExist: true}); !errors.Is(err, state.ErrInvalid) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v, %v", s, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	for _, must := range []bool{false, true} {
		s, err := Open(dir, &Options{MustExist: must})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
