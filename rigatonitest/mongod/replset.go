package mongod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// initiate makes the nodes a replica set, waits for a primary, and with access
// control creates the user that URI names.
func (s *Server) initiate(ctx context.Context) error {
	members := bson.A{}
	for i, n := range s.nodes {
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: n.Addr()}})
	}
	config := bson.D{
		{Key: "_id", Value: replicaSet},
		{Key: "members", Value: members},
		{Key: "settings", Value: bson.D{
			{Key: "electionTimeoutMillis", Value: electionTimeout.Milliseconds()},
			{Key: "heartbeatIntervalMillis", Value: heartbeatInterval.Milliseconds()},
		}},
	}
	if err := s.nodes[0].run(ctx, bson.D{{Key: "replSetInitiate", Value: config}}, nil); err != nil {
		return fmt.Errorf("mongod: initiate the replica set: %w", err)
	}
	primary, err := s.Primary(ctx)
	if err != nil || !s.options.Auth {
		return err
	}
	// As long as there is no user, a client on the same machine may create the
	// first one.
	password := randomHex(12)
	user := bson.D{
		{Key: "createUser", Value: rootUser}, {Key: "pwd", Value: password}, {Key: "roles", Value: bson.A{"root"}},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: len(s.nodes)}}},
	}
	if err := primary.run(ctx, user, nil); err != nil {
		return fmt.Errorf("mongod: create the user %s: %w", rootUser, err)
	}
	s.password = password
	return nil
}

// run runs a command on admin, on this node.
func (n *Node) run(ctx context.Context, cmd bson.D, reply any) error {
	client, err := n.connect()
	if err != nil {
		return err
	}
	defer client.Disconnect(context.WithoutCancel(ctx))
	return runOn(ctx, client, cmd, reply)
}

func runOn(ctx context.Context, client *mongo.Client, cmd bson.D, reply any) error {
	res := client.Database("admin").RunCommand(ctx, cmd)
	if reply == nil {
		return res.Err()
	}
	return res.Decode(reply)
}

// Primary waits until the set has a primary that accepts writes, and returns
// it.
func (s *Server) Primary(ctx context.Context) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	clients := map[*Node]*mongo.Client{}
	defer func() {
		for _, c := range clients {
			c.Disconnect(context.WithoutCancel(ctx))
		}
	}()
	for {
		for _, n := range s.nodes {
			if n.running() == nil {
				continue
			}
			if clients[n] == nil {
				c, err := n.connect()
				if err != nil {
					return nil, err
				}
				clients[n] = c
			}
			if isPrimary(ctx, clients[n]) {
				return n, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("mongod: the replica set has no primary: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// isPrimary asks one node, for a second at most, because it may be suspended.
func isPrimary(ctx context.Context, client *mongo.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var hello struct {
		Primary bool `bson:"isWritablePrimary"`
	}
	err := runOn(ctx, client, bson.D{{Key: "hello", Value: 1}}, &hello)
	return err == nil && hello.Primary
}

// StepDown makes the primary step down, and returns when there is another one
// (or in a set of one node, the same again).
func (s *Server) StepDown(ctx context.Context) error {
	old, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	seconds := int(electionTimeout.Seconds())
	if len(s.nodes) > 1 {
		seconds = 10 // long enough for another to be elected
	}
	cmd := bson.D{{Key: "replSetStepDown", Value: seconds}, {Key: "secondaryCatchUpPeriodSecs", Value: seconds - 1}}
	if len(s.nodes) == 1 {
		cmd = append(cmd, bson.E{Key: "force", Value: true})
	}
	if err := old.run(ctx, cmd, nil); err != nil && !mongo.IsNetworkError(err) {
		return fmt.Errorf("mongod: step down: %w", err)
	}
	for {
		now, err := s.Primary(ctx)
		if err != nil {
			return err
		}
		if now != old || len(s.nodes) == 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New("mongod: the old primary is the primary again"))
		case <-time.After(pollInterval):
		}
	}
}
