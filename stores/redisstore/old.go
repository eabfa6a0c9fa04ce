package redisstore

import _ "embed"

// Version 1 of the data in Redis is read, and moved to version 2 by the first call that
// writes. A program of version 1 that has the lease is not disturbed.
var (
	//go:embed scripts/old.lua
	oldText   string
	oldScript = newScript(oldText)
)

// asOld returns the arguments of oldScript for a key on which c was to run.
func (c call) asOld() []any {
	switch c.script {
	case loadScript:
		return []any{0, "", 0}
	case acquireScript:
		return []any{1, c.args[1], c.args[3]} // nonce, 1 to steal
	}
	return []any{1, c.args[1], 0} // all others begin with epoch and nonce
}
