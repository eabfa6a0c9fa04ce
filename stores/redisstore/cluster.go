package redisstore

import (
	"context"
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
		Addrs:    addrs,
		Username: r.Username, Password: r.Password,
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
	c.OnNewNode(func(node *redis.Client) { node.AddHook(topologyHook{}) })
	return c
}

// A topologyHook bounds how long a node is asked for the Cluster's slots.
type topologyHook struct{}

func (topologyHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (topologyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (topologyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "cluster" {
			return next(ctx, cmd)
		}
		ctx, cancel := context.WithTimeout(ctx, topologyTimeout)
		defer cancel()
		return next(ctx, cmd)
	}
}
