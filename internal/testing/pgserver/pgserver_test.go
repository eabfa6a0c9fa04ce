package pgserver

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The data outlive each way in which a server can end.
func TestServer(t *testing.T) {
	s := Start(t, &Options{Config: []string{"max_connections=12"}})
	sql := func(text string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join(s.bin, "psql"), "-At", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres", "-c", text).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", text, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := sql("show max_connections"); got != "12" {
		t.Errorf("max_connections is %s", got)
	}
	sql("create table t (n int)")
	for i, end := range []func() error{s.Kill, s.Stop, s.Shutdown} {
		sql("insert into t values (1)")
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := sql("select count(*) from t"), strconv.Itoa(i+1); got != want {
			t.Errorf("after restart %d there are %s rows, not %s", i+1, got, want)
		}
	}
}
