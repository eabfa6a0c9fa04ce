package tablestore

import (
	"context"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

// TestStore runs the store through every rule of the contract.
func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		table := NewMap()
		return statetest.Harness{
			// Each handle is another Store on the same data.
			Open: func(context.Context) (state.Store, error) { return Store{Table: table}, nil },
			// What a bad disk or an editor would do to a row.
			Damage: func(_ context.Context, key string) error {
				table.mu.Lock()
				defer table.mu.Unlock()
				table.rows[key] = []byte("{")
				return nil
			},
		}
	})
}
