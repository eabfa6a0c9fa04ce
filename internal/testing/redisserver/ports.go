package redisserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are below those that systems use for outgoing connections (from 32,768
// on Linux, higher elsewhere): the port of a server that is down for a moment
// must stay free, and a client that dials it must not be connected with itself.
const (
	firstPort = 10_240
	lastPort  = 32_767
)

// freeAddr returns an address on which nothing listens.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("redisserver: no free port was found: %w", err)
}

// freePort returns a port on which nothing listens.
func freePort() (int, error) {
	addr, err := freeAddr()
	if err != nil {
		return 0, err
	}
	return portOf(addr), nil
}

func portOf(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port) // freeAddr made it
	return n
}
