package statusserver

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// ErrAddress: what is no address is a mistake of whoever wrote it.
var ErrAddress = errors.New("is no address")

// Listen listens at an address, HOST:PORT. A port alone, with or without a colon, is
// that of 127.0.0.1: to be reached from outside takes an address that is written out.
func Listen(addr string) (net.Listener, error) {
	addr, err := complete(addr)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Err != nil {
			err = op.Err // the address stands in front already
		}
		return nil, fmt.Errorf("can't listen on %s: %w", addr, err)
	}
	return l, nil
}

func complete(addr string) (string, error) {
	if isPort(addr) {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) {
		return "", fmt.Errorf("%q %w: it must be a port (9600), of this machine alone, or HOST:PORT, as 0.0.0.0:9600", addr, ErrAddress)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}
