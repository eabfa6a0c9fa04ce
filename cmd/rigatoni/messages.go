package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// messages writes what ends the command to standard error, in the format of the log.
// It is safe for concurrent use: a second signal may come at any time.
type messages struct {
	w     io.Writer
	style style
	args  []string

	mu    sync.Mutex
	json  bool
	scrub config.Scrubber
}

func newMessages(w world) *messages {
	return &messages{w: w.stderr, style: newStyle(w, w.terminal), args: w.args, json: asksForJSON(w.args)}
}

// asksForJSON reports whether the flags ask for JSON. They may be wrong otherwise, and
// never be parsed.
func asksForJSON(args []string) (asked bool) {
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--log-format="):
			asked = arg == "--log-format=json"
		case arg == "--log-format" && i+1 < len(args):
			asked = args[i+1] == "json"
		}
	}
	return asked
}

// configured takes what the settings say about messages, also of settings that are
// wrong.
func (m *messages) configured(s *config.Settings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if format := s.Messages.LogFormat; format != "" {
		m.json = format == "json"
	}
	m.scrub = s.Scrubber()
}

// failed writes why the command ends, and what to do.
func (m *messages) failed(err error, code int, next ...advice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := strings.TrimPrefix(m.scrub.Text(config.Words(err.Error())), "rigatoni: ")
	if !m.json {
		fmt.Fprintf(m.w, "%s %s%s\n", m.style.bad("rigatoni:"), indented(printable(text)), printable(formatAll(next, m.args)))
		return
	}
	attrs := []slog.Attr{slog.String("err", text), slog.Int("exit_code", code)}
	if advised := strings.TrimSpace(formatAll(next, m.args)); advised != "" {
		attrs = append(attrs, slog.String("advice", advised))
	}
	m.logJSON("failed", attrs...)
}

// endAtOnce says that a second signal ends the process now, if that can be written:
// the terminal may be stopped.
func (m *messages) endAtOnce() {
	const text = "stopped at once by a second signal; events since the last checkpoint are redelivered"
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.json {
			m.logJSON(text, slog.Int("exit_code", exitInterrupted))
			return
		}
		fmt.Fprintf(m.w, "\n%s %s\n", m.style.bad("rigatoni:"), text)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// logJSON writes a line as the log does. m.mu is held.
func (m *messages) logJSON(msg string, attrs ...slog.Attr) {
	slog.New(slog.NewJSONHandler(m.w, nil)).LogAttrs(context.Background(), slog.LevelError, msg, attrs...)
}

var lineBegin = regexp.MustCompile(`\n(\S)`)

// indented is text whose lines but for the first begin with blanks: one that a name has
// in it doesn't look like ours.
func indented(text string) string { return lineBegin.ReplaceAllString(text, "\n  $1") }

// printable is text whose control characters are escaped, except for the ends of
// lines: a name from a server, a store or a file must not move the cursor.
func printable(text string) string {
	clean := func(r rune) bool { return r == '\n' || !isControl(r) }
	if strings.IndexFunc(text, func(r rune) bool { return !clean(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if clean(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}
