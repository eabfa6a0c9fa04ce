module github.com/rigatoni-etl/rigatoni/destinations/postgres

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.13.0
	github.com/rigatoni-etl/rigatoni v0.1.0
	github.com/rigatoni-etl/rigatoni/stores/pgstore v0.1.0
)
