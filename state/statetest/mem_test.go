package statetest_test

import (
	"context"
	"testing"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/statetest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

func TestMemstore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Harness {
		s := memstore.New()
		return statetest.Harness{
			Open:     func(context.Context) (state.Store, error) { return s, nil },
			Volatile: true,
		}
	})
}
