package redisstore

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Saving through a script costs Redis ten times what a SET does. So the record of
// a key lies under a name that ends in a seal, a random number that is known to the
// one store that wrote there last by a script. As long as that name is there, that
// store alone writes the record, knows the last sequence, and saves with
// SET … XX: "if it is there". Everything that must shut it out (an acquire, a
// release, a clear, a save by anybody else) puts the record under another seal, in
// the same step; a SET that comes late finds no such name and does nothing. Whoever
// finds that goes through the script, which decides by fence and sequence alone.
//
// A SET whose answer was lost may yet be executed. Its seal is never used again: the
// next save goes through the script and breaks it.

// maxSeals bounds the memory for them, some 300 bytes each. One more makes the store
// forget another one, which costs that key's next save a script.
const maxSeals = 100_000

// A seal is the right to save with SET.
type seal struct {
	name  any // of the record, made an any once
	fence state.Fence
	epoch uint64
	last  uint64 // the last sequence; the holder of the seal writes it
	busy  atomic.Bool
}

// seals are those that a store has, by key.
type seals struct {
	mu    sync.RWMutex
	byKey map[string]*seal
}

// newSeal returns a unique seal. It is a variable for a test.
var newSeal = func() string { return fmt.Sprintf("%016x", rand.Uint64()|1) }

// take is the seal for a save of key under f, for one save at a time, nil if there
// is none.
func (m *seals) take(key string, f state.Fence) *seal {
	m.mu.RLock()
	e := m.byKey[key]
	m.mu.RUnlock()
	if e == nil || e.fence != f || !e.busy.CompareAndSwap(false, true) {
		return nil
	}
	return e
}

// give returns a seal that take has taken. It is good if nothing was tried with it, or the
// save was done.
func (m *seals) give(key string, e *seal, good bool) {
	if good {
		e.busy.Store(false)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey[key] == e {
		delete(m.byKey, key)
	}
}

// put keeps a seal that a script has made.
func (m *seals) put(key string, e *seal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey == nil {
		m.byKey = make(map[string]*seal)
	}
	if len(m.byKey) >= maxSeals {
		for other := range m.byKey {
			delete(m.byKey, other)
			break
		}
	}
	m.byKey[key] = e
}

// drop forgets the seal of a key under f.
func (m *seals) drop(key string, f state.Fence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byKey[key]; e != nil && e.fence == f {
		delete(m.byKey, key)
	}
}
