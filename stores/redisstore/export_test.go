package redisstore

import (
	"context"
	"net"
)

// Through is o for a store whose connections dial makes.
func Through(o Options, dial func(ctx context.Context, network, addr string) (net.Conn, error)) Options {
	o.dial = dial
	return o
}

// Names are the names in Redis of record and fence of a key.
func Names(prefix, key string) (record, fence string) {
	s := Store{opts: Options{KeyPrefix: prefix}}
	names := s.names(key)
	return names[0], names[1]
}

// EncodeKey and DecodeKey are what makes a key a part of such a name, and back.
var (
	EncodeKey = encodeKey
	DecodeKey = decodeKey
)
