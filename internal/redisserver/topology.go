package redisserver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settleTimeout is how long several servers may take to agree.
const settleTimeout = 60 * time.Second

// eventually asks until there is no error, for a minute at most.
func eventually(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redisserver: waiting for %s: %w (%w)", what, err, ctx.Err())
		case <-tick.C:
		}
	}
}

// withLogs is err with what the servers have logged.
func withLogs(err error, servers []*Server) error {
	for _, s := range servers {
		err = fmt.Errorf("%w\nthe log of %s:\n%s", err, s.Addr, s.Log())
	}
	return err
}

func addrs(servers []*Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Addr
	}
	return list
}

func closeAll(servers []*Server) error {
	var err error
	for _, s := range servers {
		err = errors.Join(err, s.Close())
	}
	return err
}
