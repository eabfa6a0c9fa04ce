// Package sharedlog has a buffer that several goroutines write while tests read
// it.
package sharedlog

import (
	"bytes"
	"sync"
)

// A Buffer collects what is written to it. The zero Buffer is empty and ready
// to use.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
