package redisserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slots is the number of slots of a Cluster.
const slots = 16384

// ClusterOptions configure a Cluster.
type ClusterOptions struct {
	// Options are those of every node. With TLS the nodes also use it among
	// themselves.
	Options
	// Masters is the number of masters. 0: 3, the least with which one can be
	// failed over.
	Masters int
	// Replicas is the number of replicas of each master. 0: 1; -1: none.
	Replicas int
	// NodeTimeout is the time after which a silent node is considered down. 0:
	// 1 s.
	NodeTimeout time.Duration
}

// A Cluster is a Redis Cluster.
type Cluster struct {
	// Nodes are all nodes; the first ones were the masters at the start.
	Nodes []*Server

	opts ClusterOptions
	ids  map[string]*Server
}

// NewCluster starts a Cluster and returns when every node reports that it is
// complete and every replica has its data. Nil options mean the zero
// ClusterOptions.
func NewCluster(ctx context.Context, o *ClusterOptions) (*Cluster, error) {
	t := &Cluster{ids: map[string]*Server{}}
	if o != nil {
		t.opts = *o
	}
	if t.opts.Masters == 0 {
		t.opts.Masters = 3
	}
	if t.opts.Replicas == 0 {
		t.opts.Replicas = 1
	}
	if t.opts.NodeTimeout == 0 {
		t.opts.NodeTimeout = time.Second
	}
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(withLogs(err, t.Nodes), t.Close())
	}
	return t, nil
}

func (t *Cluster) start(ctx context.Context) error {
	for range t.opts.Masters * (1 + max(t.opts.Replicas, 0)) {
		if err := t.startNode(ctx); err != nil {
			return err
		}
	}
	for i, s := range t.Nodes[:t.opts.Masters] {
		first, last := i*slots/t.opts.Masters, (i+1)*slots/t.opts.Masters-1
		if _, err := s.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
	}
	if err := t.meet(ctx); err != nil {
		return err
	}
	for i, s := range t.Nodes[t.opts.Masters:] {
		id, err := t.Nodes[i%t.opts.Masters].text(ctx, "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		if _, err := s.Do(ctx, "CLUSTER", "REPLICATE", id); err != nil {
			return err
		}
	}
	return t.Settled(ctx)
}

func (t *Cluster) startNode(ctx context.Context) error {
	bus, err := freePort()
	if err != nil {
		return err
	}
	extra := append(replication(&t.opts.Options),
		"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-port "+strconv.Itoa(bus),
		"cluster-node-timeout "+strconv.FormatInt(t.opts.NodeTimeout.Milliseconds(), 10),
		// Each master keeps its replica, and a replica is never too old to take over.
		"cluster-allow-replica-migration no", "cluster-replica-validity-factor 0")
	if t.opts.TLS != nil {
		extra = append(extra, "tls-cluster yes")
	}
	s, err := newServer(ctx, t.opts.Options, clustered, extra...)
	if err != nil {
		return err
	}
	s.bus = bus
	t.Nodes = append(t.Nodes, s)
	id, err := s.text(ctx, "CLUSTER", "MYID")
	if err != nil {
		return err
	}
	t.ids[id] = s
	_, err = s.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(len(t.Nodes)))
	return err
}

// meet makes every node known to every other.
func (t *Cluster) meet(ctx context.Context) error {
	for i, s := range t.Nodes {
		for _, other := range t.Nodes[i+1:] {
			if _, err := s.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.Port()), strconv.Itoa(other.bus)); err != nil {
				return err
			}
		}
	}
	return eventually(ctx, "the nodes to meet", func(ctx context.Context) error {
		for _, s := range t.Nodes {
			nodes, err := s.nodes(ctx)
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if strings.Contains(n.flags, "handshake") {
					return fmt.Errorf("%s still meets %s", s.Addr, n.id)
				}
			}
			if len(nodes) != len(t.Nodes) {
				return fmt.Errorf("%s knows %d nodes", s.Addr, len(nodes))
			}
		}
		return nil
	})
}

// Settled waits until every running node reports that the Cluster is complete,
// agrees with the others on the masters, and has its master's data if it is a
// replica.
func (t *Cluster) Settled(ctx context.Context) error {
	return eventually(ctx, "the Cluster to be whole", func(ctx context.Context) error {
		var want string
		for _, s := range t.Nodes {
			if s.PID() == 0 {
				continue
			}
			view, err := s.view(ctx)
			if err != nil {
				return err
			}
			if want == "" {
				want = view
			}
			if view != want {
				return fmt.Errorf("%s sees %s, and another node sees %s", s.Addr, view, want)
			}
		}
		return nil
	})
}

// view returns which nodes are masters in the view of one node. It is an error
// if that node reports a problem.
func (s *Server) view(ctx context.Context) (string, error) {
	text, err := s.text(ctx, "CLUSTER", "INFO")
	if err != nil {
		return "", err
	}
	if state := pairs(text)["cluster_state"]; state != "ok" {
		return "", fmt.Errorf("%s says cluster_state:%s", s.Addr, state)
	}
	if _, err := s.replicating(ctx); err != nil {
		return "", err
	}
	nodes, err := s.nodes(ctx)
	var view []string
	for _, n := range nodes {
		role := "replica"
		if n.master() {
			role = "master"
		}
		view = append(view, n.id[:6]+"="+role)
	}
	slices.Sort(view)
	return strings.Join(view, " "), err
}

// A clusterNode is a line of CLUSTER NODES.
type clusterNode struct {
	id, flags string
	slots     []string // first-last, or one
}

func (n clusterNode) master() bool {
	flags := strings.Split(n.flags, ",")
	return slices.Contains(flags, "master") && !slices.Contains(flags, "fail")
}

func (n clusterNode) has(slot int) bool {
	for _, part := range n.slots {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		last := first
		if err == nil && isRange {
			last, err = strconv.Atoi(to)
		}
		if err == nil && first <= slot && slot <= last { // else it is a slot that is being moved: [n->-id]
			return true
		}
	}
	return false
}

func (s *Server) nodes(ctx context.Context) ([]clusterNode, error) {
	text, err := s.text(ctx, "CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	var nodes []clusterNode
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 8 {
			nodes = append(nodes, clusterNode{id: f[0], flags: f[2], slots: f[8:]})
		}
	}
	return nodes, nil
}

// Slot returns the slot of a key.
func (t *Cluster) Slot(ctx context.Context, key string) (int, error) {
	for _, s := range t.Nodes {
		if s.PID() == 0 {
			continue
		}
		v, err := s.Do(ctx, "CLUSTER", "KEYSLOT", key)
		n, _ := v.(int64)
		return int(n), err
	}
	return 0, errors.New("redisserver: no node runs")
}

// MasterOf returns the node that has a slot, according to the first node that
// answers and reports the Cluster as complete.
func (t *Cluster) MasterOf(ctx context.Context, slot int) (*Server, error) {
	var errs error
	for _, s := range t.Nodes {
		if s.PID() == 0 {
			continue
		}
		if _, err := s.view(ctx); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		nodes, err := s.nodes(ctx)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		for _, n := range nodes {
			if n.master() && n.has(slot) {
				return t.ids[n.id], nil
			}
		}
	}
	return nil, errors.Join(fmt.Errorf("redisserver: nobody has slot %d", slot), errs)
}

// MoveSlot moves a slot with its keys to another master, as resharding does.
func (t *Cluster) MoveSlot(ctx context.Context, slot int, to *Server) error {
	from, err := t.MasterOf(ctx, slot)
	if err != nil || from == to {
		return err
	}
	if err := t.BeginMove(ctx, slot, from, to); err != nil {
		return err
	}
	for {
		v, err := from.Do(ctx, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(slot), "1000")
		if err != nil {
			return err
		}
		keys, _ := v.([]any)
		if len(keys) == 0 {
			break
		}
		if err := t.migrate(ctx, from, to, keys); err != nil {
			return err
		}
	}
	return t.endMove(ctx, slot, to)
}

// BeginMove opens a slot's move: until [Cluster.MoveSlot] ends it, the old master
// answers ASK for a key that it no longer has, and TRYAGAIN where it has only
// some of a command's keys.
func (t *Cluster) BeginMove(ctx context.Context, slot int, from, to *Server) error {
	for _, step := range []struct {
		at          *Server
		verb, other string
	}{{to, "IMPORTING", t.id(from)}, {from, "MIGRATING", t.id(to)}} {
		if _, err := step.at.Do(ctx, "CLUSTER", "SETSLOT", strconv.Itoa(slot), step.verb, step.other); err != nil {
			return err
		}
	}
	return nil
}

func (t *Cluster) migrate(ctx context.Context, from, to *Server, keys []any) error {
	args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.Port()), "", "0", "5000"}
	if t.opts.Password != "" {
		args = append(args, "AUTH", t.opts.Password)
	}
	args = append(args, "KEYS")
	for _, k := range keys {
		args = append(args, fmt.Sprint(k))
	}
	_, err := from.Do(ctx, args...)
	return err
}

// endMove informs the new master first, so that the slot always has a master.
func (t *Cluster) endMove(ctx context.Context, slot int, to *Server) error {
	for _, s := range append([]*Server{to}, t.Nodes...) {
		if s.PID() == 0 {
			continue
		}
		info, err := s.Info(ctx, "replication")
		if err != nil {
			return err
		}
		if info["role"] != "master" {
			continue // it follows its master
		}
		if _, err := s.Do(ctx, "CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", t.id(to)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Cluster) id(s *Server) string {
	for id, node := range t.ids {
		if node == s {
			return id
		}
	}
	return ""
}

// Addrs returns the addresses of all nodes.
func (t *Cluster) Addrs() []string { return addrs(t.Nodes) }

// URL returns redis+cluster://:password@host:port,… (rediss+cluster with TLS).
func (t *Cluster) URL() string {
	return t.opts.url("redis+cluster", strings.Join(t.Addrs(), ","), "")
}

// Close kills all nodes and removes their files.
func (t *Cluster) Close() error { return closeAll(t.Nodes) }
