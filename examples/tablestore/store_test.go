package tablestore

import (
	"context"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
)

// TestStore tests the store against every rule of the contract.
func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		table := NewMap()
		return statetest.Harness{
			// Every handle is another Store on the same data.
			Open: func(context.Context) (state.Store, error) { return Store{Table: table}, nil },
			// A bad disk or an editor may leave such a row.
			Damage: func(_ context.Context, key string) error {
				table.mu.Lock()
				defer table.mu.Unlock()
				table.rows[key] = []byte("{")
				return nil
			},
		}
	})
}
