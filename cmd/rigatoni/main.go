package main

import (
	_ "github.com/rigatoni-etl/rigatoni"
	_ "github.com/rigatoni-etl/rigatoni/stores/redisstore"
	_ "github.com/spf13/cobra"
	_ "go.yaml.in/yaml/v4"
)

func main() {}
