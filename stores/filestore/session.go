package filestore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A session is what all leases of a Store live by: one file that the operating system
// keeps locked for it until it is closed or its process ends, whichever comes first.
// A key's lock file names the session of its owner. So a lease holds no file open, and
// a process may have as many as it likes.
//
// Nobody waits for a session's lock. Its owner takes it exclusively, once, before any
// lock file names it; all others try for a shared one, in passing, to see whether it
// lives.
type session struct {
	sys fsys
	dir string

	mu   sync.Mutex
	name string // "": not begun
	file file
	info fs.FileInfo
}

// No key's file begins with a dot.
const sessionPrefix = ".session."

// A holder is the content of the lock file of a leased key.
type holder struct {
	Owner   string    `json:"owner"`
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Session string    `json:"session"`
}

// parseHolder reads a lock file. If it was edited and is invalid, it names no holder, and
// fences alone keep two owners apart.
func parseHolder(text []byte) holder {
	var h holder
	if err := json.Unmarshal(text, &h); err != nil || strings.Trim(h.Session, lowerHex) != "" {
		return holder{}
	}
	return h
}

// holder is what to write for a lease of this session, which it begins if need be.
func (s *session) holder(owner string) (holder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.hold(); err != nil {
		return holder{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // for people only
	}
	return holder{
		Owner: owner, PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Millisecond), Session: s.name,
	}, nil
}

// check looks whether the session's file is still there, and creates it again if
// it was removed.
func (s *session) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hold()
}

func (s *session) hold() error {
	if s.file != nil {
		same, _, err := s.sys.Look(s.path(s.name), s.info)
		if same || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unavailable(err)
		}
		f := s.file
		s.file = nil // closed, whatever closing says
		if err := f.Close(); err != nil {
			return unavailable(err)
		}
	}
	for {
		name := s.name
		if name == "" {
			var b [8]byte
			_, _ = rand.Read(b[:]) // never fails
			name = hex.EncodeToString(b[:])
		}
		ok, err := s.begin(name)
		if ok || err != nil {
			return unavailable(err)
		}
	}
}

// begin creates and locks the session's file. It fails for a moment while another
// process takes the file for a leftover of a process that has ended.
func (s *session) begin(name string) (bool, error) {
	f, err := s.sys.Open(s.path(name), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return false, err
	}
	info, err := f.Stat()
	locked, same := false, false
	if err == nil {
		locked, err = f.TryLock(true)
		err = lockError(err)
	}
	if err == nil && locked {
		same, _, err = s.sys.Look(s.path(name), info)
	}
	switch {
	case err == nil && locked && same:
		s.name, s.file, s.info = name, f, info
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	return false, errors.Join(err, f.Close())
}

// close ends the session, and with it all leases. A file that can't be removed is
// swept when the directory is opened again.
func (s *session) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := unavailable(s.file.Close())
	s.file = nil
	_ = s.sys.Remove(s.path(s.name))
	return err
}

func (s *session) path(name string) string { return filepath.Join(s.dir, sessionPrefix+name) }

// is reports whether h names this session.
func (s *session) is(h holder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name != "" && s.name == h.Session
}

// ended reports whether the session that h names has ended.
func (s *session) ended(h holder) (bool, error) {
	if h.Session == "" {
		return true, nil
	}
	f, err := s.sys.Open(s.path(h.Session), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	ended, err := f.TryLock(false)
	return ended, errors.Join(lockError(err), unavailable(f.Close()))
}

// sweep removes the file of a session that has ended.
func (s *session) sweep(name string) error {
	ended, err := s.ended(holder{Session: strings.TrimPrefix(name, sessionPrefix)})
	if ended && err == nil {
		err = s.sys.Remove(filepath.Join(s.dir, name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
