package changestream

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
)

// An identity is what the server says about itself.
type identity struct {
	deployment deployment
	now        bson.Timestamp // its cluster time; zero if it doesn't give it
}

// identify asks which deployment this is, and what time it has.
func (s *Source) identify(ctx context.Context) (identity, error) {
	var hello struct {
		Set   string       `bson:"setName"`
		Clock clusterClock `bson:"$clusterTime"`
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
	switch {
	case err == nil && !config.Config.Settings.ID.IsZero():
		id.deployment.id = config.Config.Settings.ID.Hex()
		return id, nil
	case err != nil && !noSuchConfig[code(err)]:
		return identity{}, err
	}
	s.warnWeak.Do(func() {
		s.log.Warn("the replica set's id can't be read, so a checkpoint of another deployment with the same set name would not be noticed; the role clusterMonitor can read it",
			"set_name", id.deployment.set, "err", messageOf(err))
	})
	return id, nil
}

// noSuchConfig are the codes with which a server doesn't show its configuration to
// this user (13; 8000 is Atlas's), or has none (59, 76, 115: a mongos, a standalone
// server, another product). After any other error the id is unknown only for now.
var noSuchConfig = map[int32]bool{codeUnauthorized: true, 8000: true, 59: true, 76: true, 115: true}

// futureWait is how long a server that is behind a checkpoint may take to catch up.
const futureWait = 5 * time.Second

// catchUp waits until the primary's cluster time has reached a time, or is not going
// to soon, and returns it. A member that is asked first may lag behind it; a primary
// is never behind what a change stream has returned, unless its data is older.
func (s *Source) catchUp(ctx context.Context, t, now bson.Timestamp) bson.Timestamp {
	ctx, cancel := context.WithTimeout(ctx, futureWait)
	defer cancel()
	for isAfter(t, now) {
		var hello struct {
			Clock clusterClock `bson:"$clusterTime"`
		}
		cmd := bson.D{{Key: "hello", Value: 1}}
		err := s.client.Database("admin").RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.Primary())).Decode(&hello)
		if err == nil && hello.Clock.Time.After(now) {
			now = hello.Clock.Time
		}
		if err == nil && t.T > now.T && time.Duration(t.T-now.T)*time.Second > futureWait || backoff.Wait(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	return now
}

// clusterClock is the cluster's time in a reply.
type clusterClock struct {
	Time bson.Timestamp `bson:"clusterTime"`
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
