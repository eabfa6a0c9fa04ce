package redisstore

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A command that is used again has nothing of what it was answered before.
func TestSetAnew(t *testing.T) {
	cmd := newSet(context.Background(), call{name: "a", text: []byte("old")})
	cmd.SetVal("OK")
	cmd.SetErr(redis.Nil)
	setAnew(cmd, call{name: "b", text: []byte("new")})
	if v, err := cmd.Result(); v != nil || err != nil {
		t.Errorf("it has the answer %v, %v", v, err)
	}
	if a := cmd.Args(); a[1] != "b" || string(a[2].([]byte)) != "new" || len(a) != 4 {
		t.Errorf("its arguments are %v", a)
	}
}
