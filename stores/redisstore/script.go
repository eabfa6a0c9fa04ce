package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strings"
)

// A script is what runs in Redis: one operation of one key, in one step.
type script struct {
	text, sha string
}

var (
	//go:embed scripts/prelude.lua
	prelude string
	//go:embed scripts/write.lua
	write string
	//go:embed scripts/stray.lua
	stray string
	//go:embed scripts/read.lua
	read string
	//go:embed scripts/put.lua
	put string
	//go:embed scripts/move.lua
	move string
	//go:embed scripts/save.lua
	saveText string
	//go:embed scripts/load.lua
	loadText string
	//go:embed scripts/clear.lua
	clearText string
	//go:embed scripts/acquire.lua
	acquireText string
	//go:embed scripts/renew.lua
	renewText string
	//go:embed scripts/release.lua
	releaseText string
	//go:embed scripts/forget.lua
	forgetText string
	//go:embed scripts/ping.lua
	pingText string
)

var (
	saveScript    = newScript(prelude, write, stray, read, put, saveText)
	loadScript    = newScript(prelude, stray, read, loadText)
	clearScript   = newScript(prelude, write, stray, read, put, clearText)
	acquireScript = newScript(prelude, stray, read, put, move, acquireText)
	renewScript   = newScript(prelude, write, read, move, renewText)
	releaseScript = newScript(prelude, move, releaseText)
	forgetScript  = newScript(forgetText)
	pingScript    = newScript(pingText)
)

// newScript puts the parts together and leaves out the comments: Redis keeps the
// whole text in memory.
func newScript(parts ...string) *script {
	var b strings.Builder
	for line := range strings.Lines(strings.Join(parts, "\n")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			b.WriteString(line + "\n")
		}
	}
	sum := sha1.Sum([]byte(b.String()))
	return &script{text: b.String(), sha: hex.EncodeToString(sum[:])}
}
