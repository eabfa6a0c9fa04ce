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
	//go:embed scripts/helpers.lua
	helpers string
	//go:embed scripts/write.lua
	write string
	//go:embed scripts/read.lua
	read string
	//go:embed scripts/extend.lua
	extend string
	//go:embed scripts/save.lua
	saveText string
	//go:embed scripts/group.lua
	groupText string
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
	saveScript    = newScript(prelude, usual, helpers, "end", write, saveText)
	loadScript    = newScript(prelude, helpers, read, loadText)
	clearScript   = newScript(prelude, helpers, write, clearText)
	acquireScript = newScript(prelude, helpers, read, extend, acquireText)
	renewScript   = newScript(prelude, helpers, write, extend, renewText)
	releaseScript = newScript(prelude, releaseText)
	forgetScript  = newScript(forgetText)
	pingScript    = newScript(pingText)
	// The same for several keys.
	savesScript = newGroup(saveScript, 6)
	loadsScript = newGroup(loadScript, 0)
)

// usual begins what the usual save does without: one under a fence, of a key that has a
// record, without a TTL. A function that is made costs as much as ten lines.
const usual = "if not (saved and due == 0 and ARGV[1] ~= '' and ARGV[6] == '0') then"

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
