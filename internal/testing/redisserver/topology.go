package redisserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// settleTimeout is the time in which several servers must agree.
const settleTimeout = 60 * time.Second

// eventually repeats until there is no error, for a minute at most.
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

// replicating returns the server's role. It is an error if it is a replica that
// does not have its master's data, or a master with a replica that it does not
// send to yet.
func (s *Server) replicating(ctx context.Context) (role string, err error) {
	info, err := s.Info(ctx, "replication")
	if err != nil {
		return "", err
	}
	if info["role"] == "slave" && info["master_link_status"] != "up" {
		return "", fmt.Errorf("%s waits for its master", s.Addr)
	}
	for name, value := range info {
		// A replica that is online and has acknowledged nothing is sent nothing
		// (Redis 7.0).
		if strings.HasPrefix(value, "ip=") && (!strings.Contains(value, "state=online") || strings.Contains(value, "offset=0,")) {
			return "", fmt.Errorf("%s sends nothing to the replica %s yet: %s", s.Addr, name, value)
		}
	}
	return info["role"], nil
}

// withLogs adds the servers' logs to err.
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

// Replicated waits until every replica of the server reports that it has the
// server's current data.
func (s *Server) Replicated(ctx context.Context) error {
	offset := int64(-1)
	return eventually(ctx, "the replicas to have it all", func(ctx context.Context) error {
		info, err := s.Info(ctx, "replication")
		if err != nil {
			return err
		}
		if offset < 0 {
			if offset, err = strconv.ParseInt(info["master_repl_offset"], 10, 64); err != nil {
				return fmt.Errorf("%s does not say how much it has: %w", s.Addr, err)
			}
		}
		replicas := 0
		for name, value := range info {
			if !strings.HasPrefix(value, "ip=") {
				continue
			}
			replicas++
			has, err := strconv.ParseInt(pairs(strings.NewReplacer(",", "\n", "=", ":").Replace(value))["offset"], 10, 64)
			if err != nil || has < offset {
				return fmt.Errorf("%s has %d, and %s: %s", s.Addr, offset, name, value)
			}
		}
		if replicas == 0 {
			return fmt.Errorf("%s has no replica", s.Addr)
		}
		return nil
	})
}
