package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// A position that another tool has kept, in the form that it keeps it in, is where the
// pipeline begins, without further flags.
func TestImport(t *testing.T) {
	server := testserver.Mongotest(t)
	token := tokenOf(t, server, 2, 3)
	redis := redisserver.Start(t, nil)
	if _, err := redis.Do(t.Context(), "SET", "rigatoni:resume_token:orders", string(token)); err != nil {
		t.Fatal(err)
	}
	data := token.Lookup("_data").StringValue()
	for format, text := range map[string]string{
		"token":       data,
		"debezium":    fmt.Sprintf(`{"offsets":[{"partition":{"server_id":"shop"},"offset":{"sec":1,"ord":1,"resume_token":%q}}]}`, base64.StdEncoding.EncodeToString(token)),
		"mongo-kafka": `["shop",{"ns":"mongodb://h/shop.orders"}]` + "\t" + fmt.Sprintf(`{"_id":%q}`, fmt.Sprintf(`{"_data": %q}`, data)),
		"rigatoni-rs": redis.URL(),
	} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			from := text
			if format != "rigatoni-rs" {
				from = filepath.Join(dir, "from")
				if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if format == "token" {
				from = "@" + from
			}
			flags := []string{"--source", server.URI, "--database", server.DB.Name(), "--collections", "orders", "--name", "shop", "--store", "file:" + filepath.Join(dir, "state")}
			out, err := exec.Command(testbinary.Path(t), append([]string{"checkpoint", "import", format, "--from", from, "--execute"}, flags...)...).CombinedOutput()
			if err != nil || strings.Contains(string(out), data) {
				t.Fatalf("%v:\n%s", err, out)
			}
			c := startChild(t, nil, append([]string{"run", "--to", "ndjson:" + filepath.Join(dir, "out")}, flags...)...)
			awaitOutput(t, dir, 3)
			c.signal(syscall.SIGINT)
			if code := c.exit(); code != exitOK {
				t.Fatalf("exit code %d", code)
			}
			if out := outputOf(t, dir); len(out) != 1 {
				t.Errorf("the output has %v, want the event after the position", out)
			}
		})
	}
}

// tokenOf inserts documents and returns the token of the insert of one of them.
func tokenOf(t *testing.T, server *testserver.Server, id, last int) bson.Raw {
	t.Helper()
	src, err := changestream.Open(server.URI, &changestream.Options{Database: server.DB.Name(), Collections: []string{"orders"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close(context.Background()) })
	st, err := src.Open(t.Context(), "", rigatoni.Start{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close(t.Context())
	for n := 1; n <= last; n++ {
		if _, err := server.DB.Collection("orders").InsertOne(t.Context(), bson.D{{Key: "_id", Value: n}}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		events, _, err := st.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			if got, _ := ev.DocumentKey().Lookup("_id").AsInt64OK(); got == int64(id) {
				token, err := ev.Token()
				if err != nil {
					t.Fatal(err)
				}
				return token.Raw()
			}
		}
	}
}
