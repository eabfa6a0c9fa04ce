package main

import (
	"context"
	"maps"
	"sync"
)

// A Memory is a Database in memory. It stands in for a real one.
type Memory struct {
	mu      sync.Mutex
	records map[string][]byte
	rows    []string

	// after is called after each commit, if it is not nil; its error is that of
	// Update, though the transaction was committed.
	after func() error
}

type memoryTx struct {
	records map[string][]byte
	rows    []string
}

func (tx *memoryTx) Record(key string) []byte { return tx.records[key] }
func (tx *memoryTx) Append(row string)        { tx.rows = append(tx.rows, row) }

func (tx *memoryTx) SetRecord(key string, text []byte) {
	if text == nil {
		delete(tx.records, key)
		return
	}
	tx.records[key] = text
}

// Update implements Database.
func (m *Memory) Update(ctx context.Context, do func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{records: maps.Clone(m.records)}
	if tx.records == nil {
		tx.records = map[string][]byte{}
	}
	if err := do(tx); err != nil {
		return err
	}
	m.records, m.rows = tx.records, append(m.rows, tx.rows...)
	if m.after != nil {
		return m.after()
	}
	return nil
}

// Rows returns the rows.
func (m *Memory) Rows() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.rows...)
}
