module github.com/rigatoni-etl/rigatoni/stores/redisstore

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	github.com/rigatoni-etl/rigatoni v0.1.0
)
