package changestream

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// An identity is what the server says about itself.
type identity struct {
	deployment deployment
	now        bson.Timestamp // its cluster time; zero if it doesn't give it
}

// identify asks which deployment this is, and what time it has.
func (s *Source) identify(ctx context.Context) (identity, error) {
	var hello struct {
		Set   string `bson:"setName"`
		Clock struct {
			Time bson.Timestamp `bson:"clusterTime"`
		} `bson:"$clusterTime"`
	}
	if err := s.ask(ctx, "hello", &hello); err != nil {
		return identity{}, err
	}
	id := identity{deployment: deployment{set: hello.Set}, now: hello.Clock.Time}

	var config struct {
		Config struct {
			Settings struct {
				ID bson.ObjectID `bson:"replicaSetId"`
			} `bson:"settings"`
		} `bson:"config"`
	}
	err := s.ask(ctx, "replSetGetConfig", &config)
	var refused mongo.CommandError
	switch {
	case err == nil && !config.Config.Settings.ID.IsZero():
		id.deployment.id = config.Config.Settings.ID.Hex()
		return id, nil
	case err != nil && !(errors.As(err, &refused) && judge(err, atGetMore) != retry):
		return identity{}, err
	}
	s.warnWeak.Do(func() {
		s.log.Warn("the replica set's id can't be read, so a checkpoint of another deployment with the same set name would not be noticed; the role clusterMonitor can read it",
			"set_name", id.deployment.set, "err", messageOf(err))
	})
	return id, nil
}

// ask runs a command on admin, on any member, so that it works during an election.
func (s *Source) ask(ctx context.Context, command string, reply any) error {
	cmd := bson.D{{Key: command, Value: 1}}
	for attempt := 0; ; attempt++ {
		err := s.client.Database("admin").RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.Nearest())).Decode(reply)
		if attempt == 3 || !poolCleared(err) {
			return err
		}
	}
}

// poolCleared reports whether a call failed because another one did: the driver gives up
// all that wait for a connection then, and this error hides why (a login that failed,
// perhaps). The same call again finds out.
func poolCleared(err error) bool {
	var cleared interface{ Retryable() bool }
	return errors.As(err, &cleared) && cleared.Retryable()
}
