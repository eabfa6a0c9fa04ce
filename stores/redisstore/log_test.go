package redisstore_test

import (
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

const logEnv = "REDISSTORE_LOG_CLIENT"

// What go-redis logs goes to the program's logger. The logger is the whole process's, so
// this takes one of its own.
func TestLogClient(t *testing.T) {
	if os.Getenv(logEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLogClient$")
		cmd.Env = append(os.Environ(), logEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "redis: 20") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var log sharedlog.Buffer
	redisstore.LogClient(slog.New(slog.NewTextHandler(&log, nil)))
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	want(t, c.Close(), nil, "Close")
	c = redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, PoolSize: 1})
	defer c.Close()
	eventually(t, "a line of go-redis", func() bool {
		_ = c.Ping(t.Context()) // fails, and go-redis says so
		return strings.Contains(log.String(), "msg=\"redis client\" text=")
	})
}
