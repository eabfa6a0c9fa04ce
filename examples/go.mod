module github.com/rigatoni-etl/rigatoni/examples

go 1.26.0

require (
	github.com/rigatoni-etl/rigatoni v0.1.0
	github.com/rigatoni-etl/rigatoni/stores/redisstore v0.1.0
	go.mongodb.org/mongo-driver/v2 v2.10.0
)
