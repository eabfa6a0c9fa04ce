module github.com/rigatoni-etl/rigatoni/cmd/rigatoni

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/rigatoni-etl/rigatoni v0.1.0
	github.com/rigatoni-etl/rigatoni/stores/redisstore v0.1.0
	github.com/rogpeppe/go-internal v1.16.0
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	go.mongodb.org/mongo-driver/v2 v2.10.0
	go.yaml.in/yaml/v4 v4.0.0
	golang.org/x/sys v0.50.0
	golang.org/x/term v0.48.0
)
