// Package redisstore keeps checkpoints in Redis.
package redisstore

import (
	_ "github.com/redis/go-redis/v9"
	_ "github.com/rigatoni-etl/rigatoni/state"
)
