package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// logFormat is how a log is written.
type logFormat struct {
	level    string // config's; "" is the default
	format   string // config's
	terminal bool   // text is for people
	style    style
	scrub    config.Scrubber
}

// newLogger logs to w. No secret is in a value; the keys are ours. Errors have the names
// of flags where a library has those of Go.
func newLogger(w io.Writer, f logFormat) *slog.Logger {
	o := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		a.Value = scrubbedValue(f.scrub, a.Value)
		return a
	}}
	if f.level != "" {
		var l slog.Level
		if err := l.UnmarshalText([]byte(f.level)); err == nil { // config has checked it
			o.Level = l
		}
	}
	switch {
	case f.format == "json":
		return slog.New(slog.NewJSONHandler(jsonWriter{w}, o))
	case f.terminal:
		return slog.New(&peopleHandler{w: w, mu: new(sync.Mutex), style: f.style, opts: o})
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// scrubbedValue is a value without secrets.
func scrubbedValue(scrub config.Scrubber, v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(scrub.Text(v.String()))
	case slog.KindAny:
		if _, level := v.Any().(slog.Level); level {
			return v
		}
		text := fmt.Sprintf("%+v", v.Any())
		clean := scrub.Text(text)
		if _, is := v.Any().(error); is {
			clean = config.Words(clean)
		}
		if clean != text {
			return slog.StringValue(clean)
		}
	}
	return v
}

// A jsonWriter escapes the control characters that encoding/json leaves as they are,
// DEL and those above it: to some terminals U+009B begins an escape sequence.
type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	text := string(p)
	if strings.IndexFunc(text, isHighControl) < 0 {
		return j.w.Write(p)
	}
	var b strings.Builder
	for _, r := range text {
		if isHighControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	_, err := io.WriteString(j.w, b.String())
	return len(p), err
}

func isHighControl(r rune) bool { return r >= 0x7f && r <= 0x9f }

// isControl reports whether a character changes how others are shown: it moves the
// cursor, or the direction of the text.
func isControl(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// escaped is a character as a Go string has it.
func escaped(r rune) string {
	q := strconv.QuoteToASCII(string(r))
	return q[1 : len(q)-1]
}

// A peopleHandler writes short lines for people at a terminal: the time of day, the
// message, the error, and then the other attributes, but for the pipeline: there is one.
type peopleHandler struct {
	w     io.Writer
	mu    *sync.Mutex
	style style
	opts  *slog.HandlerOptions
	attrs []slog.Attr // with the names of their groups
	group string      // of attributes to come: "a.b."
}

func (h *peopleHandler) Enabled(_ context.Context, l slog.Level) bool {
	least := slog.LevelInfo
	if h.opts.Level != nil {
		least = h.opts.Level.Level()
	}
	return l >= least
}

func (h *peopleHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		c.attrs = h.flatten(c.attrs, h.group, a)
	}
	return &c
}

func (h *peopleHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// flatten adds an attribute, without secrets, or those of a group.
func (h *peopleHandler) flatten(to []slog.Attr, group string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range a.Value.Group() {
			to = h.flatten(to, group, inner)
		}
		return to
	}
	a = h.opts.ReplaceAttr(nil, a)
	a.Key = group + a.Key
	return append(to, a)
}

func (h *peopleHandler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	b.WriteString(h.style.dim(r.Time.Format(time.TimeOnly)) + " ")
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString(h.style.bad("ERROR") + " ")
	case r.Level >= slog.LevelWarn:
		b.WriteString(h.style.warn("WARN") + " ")
	case r.Level < slog.LevelInfo:
		b.WriteString(h.style.dim("DEBUG") + " ")
	}
	b.WriteString(printable(h.opts.ReplaceAttr(nil, slog.String(slog.MessageKey, r.Message)).Value.String()))
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = h.flatten(attrs, h.group, a)
		return true
	})
	for _, a := range attrs {
		if a.Key == "err" {
			b.WriteString(": " + oneLine(a.Value.String()))
		}
	}
	for _, a := range attrs {
		if text := valueText(a.Value); a.Key != "err" && text != "" && a.Key != "pipeline" {
			b.WriteString("  " + h.style.dim(oneLine(a.Key)+"=") + quotedValue(text))
		}
	}
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(b.Bytes())
	return err
}

// valueText is a value as text. Times are those of the place, as the line's own.
func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Local().Format(time.DateTime)
	case slog.KindFloat64:
		return strconv.FormatFloat(math.Round(v.Float64()*1000)/1000, 'f', -1, 64)
	}
	return v.String()
}

// oneLine is text on one line: an end of a line is a control character too.
func oneLine(text string) string { return strings.ReplaceAll(printable(text), "\n", `\n`) }

// quotedValue is a value that ends where it seems to end.
func quotedValue(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
