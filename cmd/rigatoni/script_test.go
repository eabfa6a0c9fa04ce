package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

const noServerHere = "a test's binary is no server"

func TestMain(m *testing.M) {
	// A demo that runs in the test's own process starts this program as its server.
	if len(os.Args) > 1 && os.Args[1] == "mongotest" {
		fmt.Fprintln(os.Stderr, noServerHere)
		os.Exit(3)
	}
	os.Exit(testbinary.Main(m))
}

// deadline is how long a script waits for what must come.
const deadline = 60 * time.Second

func params(t *testing.T, dir string, vars ...string) testscript.Params {
	binary := testbinary.Path(t)
	return testscript.Params{
		Dir:           filepath.Join("testdata", dir),
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Vars = append(env.Vars, vars...)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "insert": insert, "waitlines": waitLines, "waitreads": waitReads,
			"waitfile": waitFile, "fewer": fewer, "insertuntil": insertUntil, "capture": capture,
			"createuser": createUser, "grantrole": grantRole, "insertcopied": insertCopied,
		},
	}
}

// TestScripts runs the scripts that need no server.
func TestScripts(t *testing.T) { testscript.Run(t, params(t, "script")) }

// TestServerScripts runs those that need MongoDB. Each has a database named after
// it.
func TestServerScripts(t *testing.T) {
	testserver.Both(t, func(t *testing.T, server *testserver.Server) {
		p := params(t, "server", "MONGODB="+server.URI)
		ownDatabase(&p, server)
		testscript.Run(t, p)
	})
}

// TestRedisScripts runs those that need Redis. What they show is in the store.
func TestRedisScripts(t *testing.T) {
	server := testserver.Mongotest(t)
	redis := redisserver.Start(t, &redisserver.Options{Password: "hunter2"})
	p := params(t, "redis", "MONGODB="+server.URI, "REDIS="+redis.URL(), "REDIS_ADDR="+redis.Addr)
	ownDatabase(&p, server)
	testscript.Run(t, p)
}

// TestPostgresScripts runs those that need PostgreSQL. Each has a database named after
// it, and the user app, who may do there what a script grants.
func TestPostgresScripts(t *testing.T) {
	server := testserver.Mongotest(t)
	pg := pgserver.Start(t, nil)
	at := strings.TrimSuffix(pg.URL(), "/postgres?sslmode=disable")
	p := params(t, "postgres", "MONGODB="+server.URI)
	ownDatabase(&p, server)
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
		env.Setenv("PG", at+"/"+name+"?sslmode=disable")
		env.Setenv("APP", strings.Replace(at, "//postgres@", "//app:hunter2@", 1)+"/"+name+"?sslmode=disable")
		return errors.Join(setup(env), execSQL(at+"/postgres?sslmode=disable", `CREATE DATABASE "`+name+`"`))
	}
	p.Cmds["sql"] = sql
	if err := execSQL(pg.URL(), "CREATE ROLE app LOGIN PASSWORD 'hunter2'"); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, p)
}

func execSQL(url, statement string) error {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), statement)
	return err
}

// sql executes statements in the script's database; or, as sql QUERY RESULT, waits until
// a query has that result in its only row and column.
func sql(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) < 1 || len(args) > 2:
		ts.Fatalf("usage: sql statements, or sql query result")
	case len(args) == 1:
		ts.Check(execSQL(ts.Getenv("PG"), args[0]))
		return
	}
	conn, err := pgx.Connect(context.Background(), ts.Getenv("PG"))
	ts.Check(err)
	defer conn.Close(context.Background())
	got := ""
	wait(ts, fmt.Sprintf("%s to be %s", args[0], args[1]), func() bool {
		var text *string
		if err := conn.QueryRow(context.Background(), args[0]).Scan(&text); err == nil && text != nil {
			got = *text
		}
		return got == args[1]
	})
}

// ownDatabase gives each script a database named after it.
func ownDatabase(p *testscript.Params, server *testserver.Server) {
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
		env.Setenv("DB", server.DB.Name()+"_"+name)
		return setup(env)
	}
}

// TestAuthScripts runs those that need a server with access control.
func TestAuthScripts(t *testing.T) {
	s := mongod.OwnForTest(t, mongod.Options{Auth: true})
	host := s.URI()[strings.LastIndexByte(s.URI(), '@')+1:]
	testscript.Run(t, params(t, "auth", "HOST="+host, "ROOT="+s.URI()))
}

// exits runs a program and checks its exit code: exits 2 rigatoni run …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program arguments…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Check(err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// capture sets a variable to what a group of a regular expression matches in the
// standard error of the last command: capture CODE --accept-output=(\w+).
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME regexp")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stderr"))
	if len(found) != 2 {
		ts.Fatalf("%s is not in:\n%s", args[1], ts.ReadFile("stderr"))
	}
	ts.Setenv(args[0], found[1])
}

// createUser creates a user who may read a database: createuser name database.
func createUser(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: createuser name database")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(ts.Getenv("ROOT")))
	ts.Check(err)
	defer client.Disconnect(context.Background())
	ts.Check(client.Database("admin").RunCommand(context.Background(), bson.D{
		{Key: "createUser", Value: args[0]}, {Key: "pwd", Value: "pw"},
		{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: args[1]}}}},
	}).Err())
}

// grantRole grants a role on a database: grantrole name role database.
func grantRole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: grantrole name role database")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(ts.Getenv("ROOT")))
	ts.Check(err)
	defer client.Disconnect(context.Background())
	ts.Check(client.Database("admin").RunCommand(context.Background(), bson.D{
		{Key: "grantRolesToUser", Value: args[0]}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: args[1]}, {Key: "db", Value: args[2]}}}},
	}).Err())
}

// insert inserts documents {_id: from} to {_id: to}: insert orders 1 100.
func insert(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: insert collection from to")
	}
	from, err1 := strconv.Atoi(args[1])
	to, err2 := strconv.Atoi(args[2])
	ts.Check(errors.Join(err1, err2))
	client, err := mongo.Connect(options.Client().ApplyURI(ts.Getenv("MONGODB")))
	ts.Check(err)
	defer client.Disconnect(context.Background())
	var docs []any
	for id := from; id <= to; id++ {
		docs = append(docs, bson.D{{Key: "_id", Value: id}})
	}
	_, err = client.Database(ts.Getenv("DB")).Collection(args[0]).InsertMany(context.Background(), docs)
	ts.Check(err)
}

// insertUntil inserts documents until one of them has arrived in a directory, where
// no file shows that the pipeline is ready.
func insertUntil(ts *testscript.TestScript, _ bool, args []string) {
	was := inserted(ts, args[1])
	id := 0
	for known := range was {
		id = max(id, known)
	}
	id = (id/1000 + 1) * 1000
	wait(ts, "an insert to arrive", func() bool {
		id++
		insert(ts, false, []string{args[0], strconv.Itoa(id), strconv.Itoa(id)})
		return len(inserted(ts, args[1])) > len(was)
	})
}

// insertCopied inserts documents until one of them has arrived in the collection of the
// same name in the database with _copy after its name.
func insertCopied(ts *testscript.TestScript, _ bool, args []string) {
	client, err := mongo.Connect(options.Client().ApplyURI(ts.Getenv("MONGODB")))
	ts.Check(err)
	defer client.Disconnect(context.Background())
	id := 0
	wait(ts, "an insert to be copied", func() bool {
		id++
		insert(ts, false, []string{args[0], strconv.Itoa(id), strconv.Itoa(id)})
		n, err := client.Database(ts.Getenv("DB")+"_copy").Collection(args[0]).CountDocuments(context.Background(), bson.D{})
		ts.Check(err)
		return n > 0
	})
}

// waitLines waits until the files of a directory have n different lines with inserts: waitlines out 100.
func waitLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitlines directory n")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	wait(ts, fmt.Sprintf("%d inserts in %s", n, args[0]), func() bool { return len(inserted(ts, args[0])) >= n })
	found := inserted(ts, args[0])
	for id := 1; id <= n; id++ {
		if found[id] == 0 {
			ts.Fatalf("document %d is not among the %d that arrived", id, len(found))
		}
	}
}

// waitReads waits until the files of a directory have n lines of documents that were
// copied from a collection, and not more: waitreads out users 100.
func waitReads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: waitreads directory collection n")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	count := func() (found int) {
		files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.ndjson*"))
		ts.Check(err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			if errors.Is(err, fs.ErrNotExist) {
				return 0 // it got its final name just now
			}
			ts.Check(err)
			for line := range bytes.Lines(text) {
				if bytes.Contains(line, []byte(`"operationType":"read"`)) && bytes.Contains(line, []byte(`"coll":"`+args[1]+`"`)) {
					found++
				}
			}
		}
		return found
	}
	wait(ts, fmt.Sprintf("%d documents of %s", n, args[1]), func() bool { return count() >= n })
	if found := count(); found != n {
		ts.Fatalf("%d documents of %s, want %d", found, args[1], n)
	}
}

// inserted counts the inserts of each _id in the files of a folder.
func inserted(ts *testscript.TestScript, dir string) map[int]int {
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(dir), "*.ndjson*")) // finished or not
	ts.Check(err)
	found := map[int]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			return inserted(ts, dir) // it got its final name just now
		}
		ts.Check(err)
		for _, line := range bytes.SplitAfter(text, []byte("\n")) {
			var ev struct {
				DocumentKey struct {
					ID int `bson:"_id"`
				} `bson:"documentKey"`
			}
			if bytes.HasSuffix(line, []byte("\n")) {
				ts.Check(bson.UnmarshalExtJSON(line, false, &ev))
				found[ev.DocumentKey.ID]++
			}
		}
	}
	return found
}

// fewer checks that a directory has fewer than n lines: fewer out 150.
func fewer(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	lines := 0
	for _, times := range inserted(ts, args[0]) {
		lines += times
	}
	if neg || lines >= n {
		ts.Fatalf("%d lines in %s, want fewer than %d", lines, args[0], n)
	}
}

// waitFile waits for a file that a pattern names and that holds a text: waitfile
// state/*.json checksum.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfile pattern text")
	}
	wait(ts, args[1]+" in "+args[0], func() bool {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte(args[1])) {
				return true
			}
		}
		return false
	})
}

func wait(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(deadline); !done(); {
		if time.Now().After(end) {
			ts.Fatalf("waited %v for %s", deadline, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
