package redisstore

import (
	"context"
	"net"
	"strings"
)

// Through is o for a store whose connections dial makes.
func Through(o Options, dial func(ctx context.Context, network, addr string) (net.Conn, error)) Options {
	o.dial = dial
	return o
}

// Names returns the names in Redis of record and fence of a key.
func Names(prefix, key string) (record, fence string) {
	s := Store{opts: Options{KeyPrefix: prefix}}
	names := s.names(key)
	return names[0], names[1]
}

// ParseURL is parseURL.
var ParseURL = parseURL

// EncodeKey and DecodeKey are what makes a key a part of such a name, and back.
var (
	EncodeKey = encodeKey
	DecodeKey = decodeKey
)

// ReplaceInScripts replaces a text in all scripts, for the whole process, and reports
// whether a script had it. For mutants.
func ReplaceInScripts(old, replacement string) bool {
	found := false
	for _, s := range []*script{saveScript, loadScript, clearScript, acquireScript, renewScript, releaseScript, forgetScript, pingScript} {
		if strings.Contains(s.text, old) {
			found = true
			*s = *newScript(strings.ReplaceAll(s.text, old, replacement))
		}
	}
	return found
}
