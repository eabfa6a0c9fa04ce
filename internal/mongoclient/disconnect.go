package mongoclient

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// DisconnectTime is how long Disconnect waits.
const DisconnectTime = 500 * time.Millisecond

// Disconnect closes a client's connections, those that are in use too, and waits for
// [DisconnectTime] at most: the driver's Disconnect may wait for the reply to its monitor,
// whatever its context says. What is left ends by itself.
func Disconnect(client *mongo.Client) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// With a context that has ended the driver closes connections that are in use.
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = client.Disconnect(ended) // the error is that context's
	}()
	select {
	case <-done:
	case <-time.After(DisconnectTime):
	}
}
