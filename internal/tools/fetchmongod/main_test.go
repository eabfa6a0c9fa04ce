package main

import (
	"testing"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// The path alone doesn't start a server that needs libraries of its own.
func TestByHand(t *testing.T) {
	got := byHand(mongod.Binary{Path: "/c/bin/mongod", LibDir: "/c/lib"})
	if want := "to start it yourself: LD_LIBRARY_PATH=/c/lib /c/bin/mongod …"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
