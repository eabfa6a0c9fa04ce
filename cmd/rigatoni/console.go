package main

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// terminalWidth is the width in columns, 80 if it is unknown.
func terminalWidth() int {
	if width, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && width > 20 {
		return width
	}
	return 80
}

// A console writes messages, and on a terminal keeps one status line below them.
// Elsewhere there is no status, and no control characters.
type console struct {
	w        io.Writer
	terminal bool // a status line may be shown
	width    func() int

	mu     sync.Mutex
	status string // the line that is shown now
}

func newConsole(w io.Writer, terminal bool) *console {
	return &console{w: w, terminal: terminal, width: terminalWidth}
}

const eraseLine = "\r\x1b[K"

// Write writes messages above the status.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == "" {
		return c.w.Write(p)
	}
	if _, err := io.WriteString(c.w, eraseLine+string(p)+c.status); err != nil {
		return 0, err
	}
	return len(p), nil
}

// show replaces the status.
func (c *console) show(status string) {
	if !c.terminal {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if runes := []rune(printable(status)); len(runes) >= c.width() {
		status = string(runes[:c.width()-1]) // a line that wraps can't be erased
	} else {
		status = string(runes)
	}
	if status != c.status {
		_, _ = io.WriteString(c.w, eraseLine+status) // a status that can't be written is no failure
		c.status = status
	}
}

// clear removes the status.
func (c *console) clear() { c.show("") }
