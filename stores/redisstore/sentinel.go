package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// followInterval is how often the Sentinels are asked who the master is.
	// Connections to a former master are cut then, so that calls that wait for a frozen
	// one continue, and nothing is written to one that was partitioned and whose writes
	// will be discarded.
	followInterval = 500 * time.Millisecond

	// sentinelTimeout is how long one Sentinel may take to answer.
	sentinelTimeout = time.Second

	// laggards is how long to wait, after the first answer, for those of a majority.
	laggards = 200 * time.Millisecond

	// renewedSentinels is how long the Sentinels may contradict what they said. A
	// failover is known to all of them in two seconds or three.
	renewedSentinels = 20 * time.Second
)

// errDemoted: between the answer of the Sentinels and the connection, the master
// became another one.
var errDemoted = errors.New("the server is no longer the master, or not yet")

// sentinels tell where the master is. go-redis has a client that does this; it
// believes the first Sentinel that answers, which may be one that was cut off
// from the others, and it writes to standard error.
type sentinels struct {
	name    string // of the master
	addrs   []string
	clients []*redis.Client
	log     *slog.Logger

	stop func()
	done sync.WaitGroup

	mu      sync.Mutex
	addr    string    // of the master, "" if it is not known yet
	epoch   int64     // of the failover that made it the master
	doubt   time.Time // since when only earlier failovers are spoken of
	greeted string    // the address that was connected to last
	conns   map[*conn]string
}

func newSentinels(addrs []string, o Options, config *tls.Config) *sentinels {
	timeout := min(sentinelTimeout, o.ConnectTimeout)
	s := &sentinels{
		name: o.MasterName, addrs: addrs, log: o.Logger,
		stop: func() {}, conns: make(map[*conn]string),
	}
	o.DB, o.Username, o.Password = 0, o.SentinelUsername, o.SentinelPassword
	o.ReadTimeout, o.WriteTimeout, o.ConnectTimeout = timeout, timeout, timeout
	for _, addr := range addrs {
		r := clientOptions(o, newDialer(o, config))
		r.Addr = addr
		s.clients = append(s.clients, redis.NewClient(r))
	}
	return s
}

// follow asks who the master is, now and then, until close.
func (s *sentinels) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Go(func() {
		tick := time.NewTicker(followInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := s.master(ctx); err != nil && ctx.Err() == nil {
				s.log.Debug("redis master unknown to the sentinels", "master", s.name, "err", clean(err).Error())
			}
		}
	})
}

func (s *sentinels) close() error {
	s.stop()
	var errs []error
	for _, c := range s.clients {
		errs = append(errs, c.Close()) // which ends what is being asked
	}
	s.done.Wait()
	return errors.Join(errs...)
}

// An opinion is what one Sentinel says.
type opinion struct {
	addr  string
	epoch int64
	err   error
}

// master asks all Sentinels, and believes the one that knows of the latest
// failover among those who answer, which are a majority if need not be waited for.
func (s *sentinels) master(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*sentinelTimeout) // to connect, and to ask
	defer cancel()
	answers := make(chan opinion, len(s.clients))
	for i := range s.clients {
		go func() { answers <- s.ask(ctx, i) }() // within its timeouts, or ctx
	}
	var best opinion
	var errs []error
	var late <-chan time.Time
	heard := 0
	for range s.clients {
		select {
		case o := <-answers:
			if o.err != nil {
				errs = append(errs, o.err)
				continue
			}
			if heard++; best.addr == "" || o.epoch > best.epoch {
				best = o
			}
			if heard > len(s.clients)/2 {
				return s.adopt(best), nil
			}
			if late == nil {
				late = time.After(laggards)
			}
		case <-late:
			return s.adopt(best), nil
		}
	}
	if best.addr != "" {
		return s.adopt(best), nil
	}
	return "", s.unknown(errs)
}

// unknown is the error where no Sentinel named the master. It is final only if
// each of them refuses.
func (s *sentinels) unknown(errs []error) error {
	for _, err := range errs {
		if classify(err) != final {
			return fmt.Errorf("no Sentinel knows the address of the master %q: %w", s.name, notConnected{err})
		}
	}
	return fmt.Errorf("no Sentinel knows the address of the master %q: %w", s.name, errors.Join(errs...))
}

func (s *sentinels) ask(ctx context.Context, i int) opinion {
	pipe := s.clients[i].Pipeline()
	addr := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", s.name)
	about := redis.NewMapStringStringCmd(ctx, "sentinel", "master", s.name)
	_ = pipe.Process(ctx, addr) // only queues
	_ = pipe.Process(ctx, about)
	_, err := pipe.Exec(ctx)
	hostPort := addr.Val()
	switch {
	case errors.Is(addr.Err(), redis.Nil):
		err = unknownMaster{}
	case err == nil && len(hostPort) != 2:
		err = errNotOurs
	}
	if err != nil {
		return opinion{err: sentinelError{s.addrs[i], clean(err)}}
	}
	epoch, err := strconv.ParseInt(about.Val()["config-epoch"], 10, 64)
	if err != nil {
		return opinion{err: sentinelError{s.addrs[i], errNotOurs}}
	}
	return opinion{addr: net.JoinHostPort(hostPort[0], hostPort[1]), epoch: epoch}
}

// A sentinelError is what went wrong with one Sentinel.
type sentinelError struct {
	addr string
	err  error
}

func (e sentinelError) Error() string { return "the Sentinel " + e.addr + ": " + e.err.Error() }
func (e sentinelError) Unwrap() error { return e.err }

// unknownMaster is a Sentinel's answer that it does not watch the master. It is a
// redis.Error.
type unknownMaster struct{}

func (unknownMaster) Error() string { return "it knows no master of that name" }

// RedisError marks it as a server's.
func (unknownMaster) RedisError() {}

// adopt takes the master that was named for the master, unless a later failover
// is known, and cuts the connections to any other.
func (s *sentinels) adopt(o opinion) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outdated(o) || o.addr == s.addr {
		return s.addr
	}
	if s.addr != "" {
		s.log.Info("redis master changed", "master", s.name, "address", o.addr, "previous_address", s.addr)
	}
	s.addr = o.addr
	for c, addr := range s.conns {
		if addr != s.addr {
			_ = c.Conn.Close() // its user sees that it is closed
			delete(s.conns, c)
		}
	}
	return s.addr
}

// outdated reports whether o is of a time before what is known. Sentinels that
// keep saying so have been set up again.
func (s *sentinels) outdated(o opinion) bool {
	switch {
	case o.epoch >= s.epoch:
		s.doubt = time.Time{}
	case s.doubt.IsZero():
		s.doubt = time.Now()
		return true
	case time.Since(s.doubt) < renewedSentinels:
		return true
	}
	s.epoch = o.epoch
	return false
}

// keep remembers a connection to addr, if that is the master still.
func (s *sentinels) keep(c *conn, addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr != s.addr {
		return false
	}
	s.conns[c] = addr
	c.closed = func() { s.lose(c) }
	return true
}

func (s *sentinels) lose(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// greet looks at what a new connection leads to: a replica would be asked for
// checkpoints that it does not have yet.
func (s *Store) greet(ctx context.Context, cn *redis.Conn) error {
	role, err := cn.Do(ctx, "role").Slice()
	if err != nil {
		return dialError{err}
	}
	if len(role) == 0 || role[0] != "master" {
		return dialError{notConnected{errDemoted}}
	}
	if !s.sentinels.firstOf() {
		return nil
	}
	// The first master is judged when the store opens. A later one can't be refused any
	// more, only logged.
	if text, err := cn.Info(ctx).Result(); err == nil {
		if err := s.judge(ctx, s.name, parseInfo(text)); err != nil {
			s.opts.Logger.ErrorContext(ctx, "redis master is unsuitable for checkpoints", "err", err.Error())
		}
	}
	return nil
}

// firstOf reports whether this is the first connection to a master that took over
// from another one.
func (s *sentinels) firstOf() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.greeted
	s.greeted = s.addr
	return was != "" && was != s.addr
}
