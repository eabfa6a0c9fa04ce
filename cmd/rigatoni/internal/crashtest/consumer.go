package crashtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// A consumer takes finished files, as programs do that process a pipeline's
// output, and records what it reads. It must read each event once.
type consumer struct {
	dir    string
	moveTo string          // where it moves the files; "": they stay
	seen   map[string]bool // the files that were taken
	ledger record
}

// take takes the files that are finished. before is called with each name, while the
// file is there.
func (c *consumer) take(before func(base string) error) error {
	names, err := namesIn(c.dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		if !strings.HasSuffix(base, ".ndjson") || c.seen[base] && c.moveTo == "" {
			continue
		}
		if err := before(base); err != nil {
			return err
		}
		if err := c.takeFile(base); err != nil {
			return err
		}
	}
	return nil
}

func (c *consumer) takeFile(base string) error {
	path := filepath.Join(c.dir, base)
	if c.moveTo != "" {
		moved := filepath.Join(c.moveTo, base)
		if c.seen[base] {
			c.ledger.wrong().add("%s was finished twice", base)
			moved += ".again"
		}
		if err := os.Rename(path, moved); err != nil {
			return err
		}
		path = moved
	}
	c.seen[base] = true
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			c.ledger.wrong().add("%s was finished with a line that has no end", base)
			return nil
		}
		c.ledger.arrive(base, line)
		text = rest
	}
	return nil
}

// left are the files that are not finished.
func (c *consumer) left() (open []string, err error) {
	names, err := namesIn(c.dir)
	for _, base := range names {
		if !strings.HasSuffix(base, ".ndjson") {
			open = append(open, base)
		}
	}
	return open, err
}
