package tablestore

import (
	"context"
	"sync"
	"time"
)

// A Map is a Table in memory. It stands in for a database.
type Map struct {
	mu   sync.Mutex
	rows map[string][]byte
}

// NewMap returns an empty table.
func NewMap() *Map { return &Map{rows: map[string][]byte{}} }

// Update implements Table.
func (m *Map) Update(_ context.Context, key string, change func([]byte, time.Time) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, err := change(m.rows[key], time.Now())
	switch {
	case err != nil:
		return err
	case row == nil:
		delete(m.rows, key)
	default:
		m.rows[key] = row
	}
	return nil
}
