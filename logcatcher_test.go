package rigatoni

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// logCatcher keeps log lines.
type logCatcher struct {
	mu    sync.Mutex
	lines []string
}

func (l *logCatcher) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logCatcher) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// want fails the test if no line has all of the parts.
func (l *logCatcher) want(t *testing.T, parts ...string) {
	t.Helper()
	if l.count(parts...) == 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Errorf("no line has %q:\n%s", parts, strings.Join(l.lines, ""))
	}
}

func (l *logCatcher) count(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		has := true
		for _, p := range parts {
			has = has && strings.Contains(line, p)
		}
		if has {
			n++
		}
	}
	return n
}
