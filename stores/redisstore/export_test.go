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

// Names are the names in Redis of mark and fence of a key. The record is under that
// of the mark, a colon, and the field "seal" of the fence.
func Names(prefix, key string) (mark, fence string) {
	s := Store{opts: Options{KeyPrefix: prefix}}
	names := s.names(key)
	return names[1], names[0]
}

// ParseURL is parseURL.
var ParseURL = parseURL

// EncodeKey and DecodeKey are what makes a key a part of such a name, and back.
var (
	EncodeKey = encodeKey
	DecodeKey = decodeKey
)

// SameSeals has all seals be the same, for the whole process. For mutants.
func SameSeals() { newSeal = func() string { return "1" } }

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
