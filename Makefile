# The modules of this repository; "./..." in one does not reach the others. All are
# tested in one run, those whose tests take longest first: most wait for servers and
# processes, and leave the machine to the others.
MODULES := cmd/rigatoni destinations/postgres . stores/redisstore stores/pgstore otelrigatoni examples
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help demo test lint bench campaign powercut kill mutants failover soak snapshot build servers release

help: ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: ## "go run ./cmd/rigatoni demo" on a real MongoDB server, fetched on first use
	@go run ./internal/tools/fetchmongod
	@go run ./cmd/rigatoni demo --mongod
	@go run ./cmd/rigatoni demo --mongod --snapshot

test: servers ## run all tests, with the race detector; lists at the end what was skipped, and what passed only when repeated
	@internal/tools/test.sh $(MODULES:%=./%/...)

# A missing server is not an error here: the tests that need it are skipped, and listed
# at the end.
servers:
	@go run ./internal/tools/fetchmongod || echo "no mongod: tests against MongoDB will be skipped"
	@command -v redis-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq redis-server >/dev/null; \
	  else echo "no redis-server on PATH: tests against Redis will be skipped (Debian: apt-get install redis-server)"; fi; }
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  echo "no PostgreSQL server: tests against it will be skipped (Debian: apt-get install postgresql)"

lint: ## gofmt, go vet, staticcheck, and the builds for other systems
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not gofmt-clean:"; echo "$$bad"; exit 1; }
	@for m in $(MODULES); do (cd $$m && go vet ./... && go run $(STATICCHECK) ./...) || exit 1; done
	@cd cmd/rigatoni && for os in darwin windows; do GOOS=$$os CGO_ENABLED=0 go build -o /dev/null . || exit 1; done

bench: servers ## every benchmark, relative to its baseline in the same run
	@go test -run '^$$' -bench . -benchmem ./state/... ./stores/... ./destinations/mongodb
	@cd stores/redisstore && go test -run '^$$' -bench . -benchmem ./...
	@cd destinations/postgres && go test -run '^$$' -bench . ./...
	@go run ./internal/tools/streambench

campaign: servers ## 100,000 changes over 5 collections, 20 and 100 kills: files, Redis, PostgreSQL and MongoDB, step-downs, crashes, copies (about an hour)
	@cd cmd/rigatoni && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 120m -run Campaign .

powercut: ## the file store: 1,000 power cuts of ext4 and of xfs, and as many of a disk with a cache (root, Linux; an hour)
	@cd stores/filestore && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 120m -run 'PowerCut' .

kill: ## the file store: 10,000 SIGKILLs at random moments
	@cd stores/filestore && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 60m -run '^TestKill$$' .

mutants: ## the file store, the ndjson files and PostgreSQL: minutes of crashes, and well-known mistakes that the tests must find
	@cd stores/filestore && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 60m -run 'TestSimulated|TestMutants' .
	@cd destinations/ndjson && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 60m -run 'TestExactlyOnce|TestMutants' .
	@cd destinations/postgres && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 60m -run 'TestMutants|TestMirror|TestLarge' .

failover: servers ## the Redis store: the suite on every topology with connections cut, 1,000 late writes, failovers under load
	@cd stores/redisstore && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 60m -run 'TestSuite|TestLate|TestTrials|UnderLoad|Stranded' .

soak: servers ## mongotest: 100,000 events, 500 faults; the pipeline on it and on a real server: 20,000 faults, 2,000 (ten minutes)
	@RIGATONI_CAMPAIGN=full go test -count=1 -v -race -timeout 30m -run TestSoak ./mongotest
	@RIGATONI_CAMPAIGN=full go test -count=1 -v -race -timeout 60m -run TestPipelineSoak .

snapshot: servers ## the copy: 1,000,000 documents and 40 kills, failovers, random loads, all mutants, a copy that takes five times as long as the oplog holds (a quarter of an hour)
	@cd internal/testing/snapcheck && RIGATONI_CAMPAIGN=full go test -count=1 -v -timeout 120m .

build: ## the command, as bin/rigatoni
	@go build -o bin/rigatoni ./cmd/rigatoni

release: ## prove a release before it is published, then print how to publish it (VERSION=v0.1.0)
	@go run ./internal/tools/release -version '$(VERSION)'
