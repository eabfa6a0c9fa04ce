package redisstore

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// topologyTimeout is how long one node may take to say who has which slot. The
// nodes are asked one after the other, in any order, and the one that is to be
// found out to be dead may be the first.
const topologyTimeout = 500 * time.Millisecond

// newCluster makes a client of a Cluster. It follows MOVED and ASK, which say
// that nothing was executed, and READONLY; it repeats nothing else of ours (see
// onceCmd).
func newCluster(addrs []string, o Options, d *dialer) *redis.ClusterClient {
	r := clientOptions(o, d)
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:     addrs,
		NewClient: newNode(o.DB),
		Username:  r.Username, Password: r.Password,
		// Our commands name their keys. To look up how others are routed takes a
		// round trip, and the right to COMMAND.
		DisableRoutingPolicies:   true,
		MaxRetries:               r.MaxRetries,
		Dialer:                   r.Dialer,
		ContextTimeoutEnabled:    r.ContextTimeoutEnabled,
		PoolSize:                 r.PoolSize,
		MaxActiveConns:           r.MaxActiveConns,
		PipelinePoolSize:         r.PipelinePoolSize,
		PoolTimeout:              r.PoolTimeout,
		DialTimeout:              r.DialTimeout,
		ReadTimeout:              r.ReadTimeout,
		WriteTimeout:             r.WriteTimeout,
		Protocol:                 r.Protocol,
		MaintNotificationsConfig: r.MaintNotificationsConfig,
		DisableIdentity:          r.DisableIdentity,
	})
	c.OnNewNode(func(node *redis.Client) { node.AddHook(topologyHook{node.Options().Addr}) })
	return c
}

// newNode makes the client of a node. A Valkey Cluster may have several databases, which
// go-redis has no option for.
func newNode(db int) func(*redis.Options) *redis.Client {
	return func(o *redis.Options) *redis.Client {
		o.DB = db
		return redis.NewClient(o)
	}
}

// A topologyHook bounds how long the node at addr is asked for the Cluster's slots, and
// reads the answer of a Cluster that doesn't know its nodes' hosts
// (cluster-preferred-endpoint-type unknown-endpoint), which go-redis can't. Those hosts
// are that of the node that was asked.
type topologyHook struct{ addr string }

func (topologyHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (topologyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h topologyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		wanted, ok := cmd.(*redis.ClusterSlotsCmd)
		if !ok {
			return next(ctx, cmd)
		}
		ctx, cancel := context.WithTimeout(ctx, topologyTimeout)
		defer cancel()
		asked := redis.NewCmd(ctx, cmd.Args()...)
		err := next(ctx, asked)
		if err == nil {
			var slots []redis.ClusterSlot
			if slots, err = h.slots(asked.Val()); err == nil {
				wanted.SetVal(slots)
			}
		}
		wanted.SetErr(err)
		return err
	}
}

// slots reads the reply to CLUSTER SLOTS: start, end, and for each node its host, port
// and id.
func (h topologyHook) slots(reply any) ([]redis.ClusterSlot, error) {
	own, _, err := net.SplitHostPort(h.addr)
	ranges, ok := reply.([]any)
	if err != nil || !ok {
		return nil, errNotOurs
	}
	slots := make([]redis.ClusterSlot, len(ranges))
	for i, r := range ranges {
		r, ok := r.([]any)
		if !ok || len(r) < 3 {
			return nil, errNotOurs
		}
		start, _ := r[0].(int64)
		end, _ := r[1].(int64)
		slots[i] = redis.ClusterSlot{Start: int(start), End: int(end)}
		for _, n := range r[2:] {
			n, ok := n.([]any)
			if !ok || len(n) < 2 {
				return nil, errNotOurs
			}
			host, _ := n[0].(string)
			port, _ := n[1].(int64)
			if host == "" || host == "?" {
				host = own
			}
			slots[i].Nodes = append(slots[i].Nodes, redis.ClusterNode{Addr: net.JoinHostPort(host, strconv.FormatInt(port, 10))})
		}
	}
	return slots, nil
}
