package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MasterName is the name of the master that the sentinels watch.
const MasterName = "mymaster"

// SentinelOptions configure a master, its replicas and their sentinels.
type SentinelOptions struct {
	// Options are those of master and replicas. With TLS they also replicate
	// over it, and the sentinels use it too.
	Options
	// Replicas is their number. 0: 1; -1: none.
	Replicas int
	// Sentinels is their number. 0: 3, of which two must agree; -1: none.
	Sentinels int
	// SentinelUser and SentinelPassword are the credentials that the sentinels
	// require from clients and from each other. Without a user it is the
	// default user's password; empty for none.
	SentinelUser, SentinelPassword string
	// DownAfter is the time after which a silent master is considered down. 0:
	// 500 ms.
	DownAfter time.Duration
	// Announce, if not nil, returns the address that a node announces to all
	// others, such as a proxy's, given its own. It is called once for each.
	Announce func(addr string) (string, error)
}

// A Sentinel is a master, its replicas and their sentinels.
type Sentinel struct {
	// Nodes are the master and its replicas; the first was the master at the
	// start.
	Nodes []*Server
	// Sentinels watch them.
	Sentinels []*Server

	opts      SentinelOptions
	announced map[string]*Server
}

// NewSentinel starts them, and returns when the replicas have their data and
// the sentinels know all of them. Nil options mean the zero SentinelOptions.
func NewSentinel(ctx context.Context, o *SentinelOptions) (*Sentinel, error) {
	t := &Sentinel{announced: map[string]*Server{}}
	if o != nil {
		t.opts = *o
	}
	t.opts.defaults()
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(withLogs(err, t.All()), t.Close())
	}
	return t, nil
}

func (o *SentinelOptions) defaults() {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Sentinels == 0 {
		o.Sentinels = 3
	}
	if o.DownAfter == 0 {
		o.DownAfter = 500 * time.Millisecond
	}
	if o.Announce == nil {
		o.Announce = func(addr string) (string, error) { return addr, nil }
	}
}

func (t *Sentinel) start(ctx context.Context) error {
	var master string
	for i := range 1 + max(t.opts.Replicas, 0) {
		addr, err := t.startNode(ctx, master)
		if err != nil {
			return err
		}
		if i == 0 {
			master = addr
		}
	}
	if err := eventually(ctx, "the replicas' first copy", t.replicated); err != nil {
		return err
	}
	for range max(t.opts.Sentinels, 0) {
		if err := t.startSentinel(ctx, master); err != nil {
			return err
		}
	}
	return eventually(ctx, "the sentinels to know each other", t.Watched)
}

// startNode starts the master, or a replica of the one at master, and returns
// the address that it announces.
func (t *Sentinel) startNode(ctx context.Context, master string) (string, error) {
	s, err := newServer(ctx, t.opts.Options, replicated, replication(&t.opts.Options)...)
	if err != nil {
		return "", err
	}
	t.Nodes = append(t.Nodes, s)
	addr, err := t.opts.Announce(s.Addr)
	if err != nil {
		return "", err
	}
	t.announced[addr] = s
	host, port, _ := net.SplitHostPort(addr)
	// Set before it connects to its master: a replica whose name is set during
	// the handshake waits for an answer that never comes (Redis 7.0).
	steps := [][]string{{"CONFIG", "SET", "replica-announce-ip", host, "replica-announce-port", port}}
	if master != "" {
		host, port, _ := net.SplitHostPort(master)
		steps = append(steps, []string{"REPLICAOF", host, port})
	}
	for _, step := range append(steps, []string{"CONFIG", "REWRITE"}) {
		if _, err := s.Do(ctx, step...); err != nil {
			return "", err
		}
	}
	return addr, nil
}

// replication returns the configuration of replication without the delays that
// save work on large servers.
func replication(o *Options) []string {
	lines := []string{"repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1"}
	if o.Password != "" {
		lines = append(lines, "masterauth "+strconv.Quote(o.Password))
	}
	if o.TLS != nil {
		lines = append(lines, "tls-replication yes")
	}
	return lines
}

func (t *Sentinel) startSentinel(ctx context.Context, master string) error {
	o := Options{TLS: t.opts.TLS}
	host, port, _ := net.SplitHostPort(master)
	quorum := t.opts.Sentinels/2 + 1
	extra := []string{
		fmt.Sprintf("sentinel monitor %s %s %s %d", MasterName, host, port, quorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", MasterName, t.opts.DownAfter.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s %d", MasterName, (3 * t.opts.DownAfter).Milliseconds()),
	}
	if t.opts.Password != "" {
		extra = append(extra, fmt.Sprintf("sentinel auth-pass %s %s", MasterName, strconv.Quote(t.opts.Password)))
	}
	if t.opts.TLS != nil {
		extra = append(extra, "tls-replication yes")
	}
	if password := t.opts.SentinelPassword; password != "" {
		extra = append(extra, "sentinel sentinel-pass "+strconv.Quote(password))
		if t.opts.SentinelUser != "" {
			extra = append(extra, "sentinel sentinel-user "+t.opts.SentinelUser)
			o.Users = []User{{Name: t.opts.SentinelUser, Password: password, Rules: "allchannels +@all"}}
			extra = append(extra, "user default off")
		} else {
			o.Password = password
		}
	}
	s, err := newServer(ctx, o, sentinel, extra...)
	if err != nil {
		return err
	}
	if len(o.Users) != 0 {
		s.admin = &o.Users[0]
	}
	t.Sentinels = append(t.Sentinels, s)
	return hasten(ctx, s)
}

// hasten makes a sentinel check, and report, more often than every second or
// two. With only one check in the time after which a server counts as down,
// servers are considered down too easily. And after a delay of two seconds, for
// example by a busy disk, the sentinel must not watch passively for half a
// minute.
func hasten(ctx context.Context, s *Server) error {
	_, err := s.Do(ctx, "SENTINEL", "DEBUG", "PUBLISH-PERIOD", "200", "INFO-PERIOD", "1000", "PING-PERIOD", "200", "TILT-PERIOD", "1000")
	var refusal ReplyError
	if errors.As(err, &refusal) && strings.Contains(strings.ToLower(err.Error()), "unknown") {
		return nil // before Redis 7 it takes longer
	}
	return err
}

// replicated returns nil if every running node except one is a replica that has
// its master's data.
func (t *Sentinel) replicated(ctx context.Context) error {
	masters := 0
	for _, s := range t.Nodes {
		if s.PID() == 0 {
			continue
		}
		role, err := s.replicating(ctx)
		if err != nil {
			return err
		}
		if role == "master" {
			masters++
		}
	}
	if masters != 1 {
		return fmt.Errorf("there are %d masters", masters)
	}
	return nil
}

// Watched returns nil if every sentinel sees the master as up, all its
// replicas, and all other sentinels, so that a failover would succeed.
func (t *Sentinel) Watched(ctx context.Context) error {
	for _, s := range t.Sentinels {
		m, err := s.sentinelMaster(ctx)
		switch {
		case err != nil:
			return err
		case m["flags"] != "master" || m["num-slaves"] != strconv.Itoa(len(t.Nodes)-1) || m["num-other-sentinels"] != strconv.Itoa(len(t.Sentinels)-1):
			return fmt.Errorf("sentinel %s sees flags=%s, %s replicas, %s other sentinels", s.Addr, m["flags"], m["num-slaves"], m["num-other-sentinels"])
		}
	}
	return nil
}

// Settled waits until the failover has ended: there is one master, and all
// other running nodes are its replicas and known to the sentinels.
func (t *Sentinel) Settled(ctx context.Context) error {
	return eventually(ctx, "the end of a failover", func(ctx context.Context) error {
		return errors.Join(t.replicated(ctx), t.Watched(ctx))
	})
}

func (s *Server) sentinelMaster(ctx context.Context) (map[string]string, error) {
	v, err := s.Do(ctx, "SENTINEL", "MASTER", MasterName)
	if err != nil {
		return nil, err
	}
	list, _ := v.([]any)
	m := make(map[string]string, len(list)/2)
	for pair := range slices.Chunk(list, 2) {
		name, _ := pair[0].(string)
		m[name], _ = pair[len(pair)-1].(string)
	}
	return m, nil
}

// Master returns the node that most of the answering sentinels call the master.
func (t *Sentinel) Master(ctx context.Context) (*Server, error) {
	votes := map[string]int{}
	best := ""
	var errs error
	for _, s := range t.Sentinels {
		v, err := s.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
		list, ok := v.([]any)
		if err != nil || !ok || len(list) != 2 {
			errs = errors.Join(errs, fmt.Errorf("redisserver: sentinel %s answers %v: %w", s.Addr, v, err))
			continue
		}
		addr := net.JoinHostPort(fmt.Sprint(list[0]), fmt.Sprint(list[1]))
		if votes[addr]++; votes[addr] > votes[best] {
			best = addr
		}
	}
	if s := t.announced[best]; s != nil {
		return s, nil
	}
	return nil, errors.Join(fmt.Errorf("redisserver: the sentinels name no master (%q)", best), errs)
}

// SentinelAddrs returns the addresses of the sentinels.
func (t *Sentinel) SentinelAddrs() []string { return addrs(t.Sentinels) }

// URL returns redis+sentinel://:password@host:port,…/mymaster/0
// (rediss+sentinel with TLS). It does not contain the sentinels' own
// credentials.
func (t *Sentinel) URL() string {
	return t.opts.url("redis+sentinel", strings.Join(t.SentinelAddrs(), ","), "/"+MasterName+"/0")
}

// All returns all servers.
func (t *Sentinel) All() []*Server { return slices.Concat(t.Nodes, t.Sentinels) }

// Close kills all of them and removes their files.
func (t *Sentinel) Close() error { return closeAll(t.All()) }
