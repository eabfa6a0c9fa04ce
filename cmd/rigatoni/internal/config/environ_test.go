package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

// Everything that can stand in a file can be a variable of the environment.
func TestEnvironmentAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("source", []byte("mongodb://u:secret@h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Read(config.Input{Env: env("RIGATONI_SOURCE_FILE", "./source", "RIGATONI_DATABASE", "d", "RIGATONI_COLLECTIONS", "a, b",
		"RIGATONI_ONE_EACH", "Yes", "RIGATONI_SAVE_INTERVAL", "off", "RIGATONI_STORE", "memory", "RIGATONI_TO", "ndjson:./out?format=canonical",
		"RIGATONI_PIPELINE", `[{"$match": {"${x}": 1}}]`)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Server.Source != "mongodb://u:secret@h" || !s.Watch.OneEach || !reflect.DeepEqual(s.Watch.Collections, []string{"a", "b"}) ||
		s.Pipeline.SaveInterval != -1 || s.Output.To.Ref.Text != "ndjson:./out?format=canonical" {
		t.Errorf("got %+v", s)
	}
	for _, f := range config.Fields {
		if strings.HasSuffix(f.Option.Name, "-file") {
			t.Errorf("the variable of %s is that of a file for another option", f.Option.Name)
		}
	}
}

// Flags go before the environment, and that before the file; what is overridden has
// no mistakes.
func TestPrecedence(t *testing.T) {
	file := write(t, strings.Replace(minimal, "ndjson:-", "{url: x}", 1)+"save-interval: often\nidle-interval: 1s\ngrace-time: 1s\n")
	s, err := config.Read(config.Input{
		File: file, Flags: map[string][]string{"grace-time": {"3s"}, "to": {"ndjson:-"}},
		Env: env("RIGATONI_SAVE_INTERVAL", "2s", "RIGATONI_IDLE_INTERVAL", "2s", "RIGATONI_GRACE_TIME", "often"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Pipeline; p.SaveInterval != 2*time.Second || p.IdleInterval != 2*time.Second || p.GraceTime != 3*time.Second {
		t.Errorf("got %v, %v, %v", p.SaveInterval, p.IdleInterval, p.GraceTime)
	}
}

func TestMistakesInTheEnvironment(t *testing.T) {
	file := write(t, minimal)
	t.Setenv("HOME", t.TempDir())
	if err := os.WriteFile("source", []byte("http://u:hunter2@h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{"RIGATONI_LOG_LEVEL=loud"}, `RIGATONI_LOG_LEVEL is "loud"; it must be debug, info, warn or error`},
		{[]string{"RIGATONI_SOURCE=http://u:hunter2@h"}, `RIGATONI_SOURCE is "http://***@h"; it must be the URL of a MongoDB server, which begins with mongodb:// or mongodb+srv://`},
		{[]string{"RIGATONI_SOURCE=mongodb://u:hunt:er2@h"}, `RIGATONI_SOURCE can't be used: the connection string is not valid; in the user name and the password, the characters : / ? # [ ] @ % must be percent-encoded`},
		{[]string{"RIGATONI_SOURCE_FILE=source"}, `RIGATONI_SOURCE_FILE is "the contents of source"; it must be the URL of a MongoDB server, which begins with mongodb:// or mongodb+srv://`},
		{[]string{"RIGATONI_SOURCE_FILE=nowhere"}, `RIGATONI_SOURCE_FILE names "nowhere": the file can't be read: no such file or directory`},
		{[]string{"RIGATONI_SOURCE_FILE="}, `RIGATONI_SOURCE_FILE names no file; write its path`},
		{[]string{"RIGATONI_SOURCE=mongodb://h", "RIGATONI_SOURCE_FILE=x"}, `RIGATONI_SOURCE is set, and RIGATONI_SOURCE_FILE as well; unset one of them`},
		{[]string{"RIGATONI_NAME="}, `RIGATONI_NAME is empty; unset it for the default`},
		{[]string{"RIGATONI_OWNER=${HOSTNAME}"}, `RIGATONI_OWNER has ${…} in it; only a file has such variables; write the value, or name a file that has it in RIGATONI_OWNER_FILE`},
		{[]string{"RIGATONI_ACCEPT_OUTPUT=x"}, `RIGATONI_ACCEPT_OUTPUT applies to one start only and can't be in the environment, where it would apply to every start; give --accept-output`},
		{[]string{"RIGATONI_SAVEINTERVAL=1s"}, `RIGATONI_SAVEINTERVAL is no setting; did you mean RIGATONI_SAVE_INTERVAL?`},
		{[]string{"RIGATONI_COLECTIONS=a"}, `RIGATONI_COLECTIONS is no setting; did you mean RIGATONI_COLLECTIONS?`},
		{[]string{"rigatoni_name=a"}, `rigatoni_name is not read; the names of variables are in capitals: RIGATONI_NAME`},
		{[]string{"RIGATONI_DEAD_LETTERS=~x/dead"}, `RIGATONI_DEAD_LETTERS is "~x/dead", which begins with "~x", which is not replaced by a home directory; write the path in full, or ./~x for that name`},
	} {
		_, err := config.Read(config.Input{File: file, Env: lookup(c.environ), Environ: c.environ})
		if err == nil || err.Error() != c.want {
			t.Errorf("%v\n got %v\nwant %s", c.environ, err, c.want)
		}
	}
}

// What Kubernetes sets for a service of this name is nothing of ours; what only
// begins as a setting is ignored, and said; what the file names is known.
func TestOtherVariables(t *testing.T) {
	file := write(t, minimal+"owner: ${RIGATONI_OWNR}\n")
	environ := []string{"RIGATONI_SERVICE_HOST=10.0.0.1", "RIGATONI_SERVICE_PORT=80", "RIGATONI_SERVICE_PORT_HTTP=80", "RIGATONI_PORT=tcp://10.0.0.1:80",
		"RIGATONI_PORT_80_TCP=tcp://10.0.0.1:80", "RIGATONI_PORT_80_TCP_PROTO=tcp", "RIGATONI_PORT_80_TCP_ADDR=10.0.0.1", "RIGATONI_SHOP_SERVICE_HOST=10.0.0.1",
		"RIGATONI_OWNR=me", "RIGATONI_VERSION=1.2.3", "RIGATONI_CONFIG=x", "PATH=/bin", "=C:=x"}
	s, err := config.Read(config.Input{File: file, Env: lookup(environ), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Ignored, []string{"RIGATONI_VERSION"}) || s.Pipeline.Owner != "me" {
		t.Errorf("ignored: %q; owner %s", s.Ignored, s.Pipeline.Owner)
	}
}

func lookup(environ []string) func(string) (string, bool) {
	var pairs []string
	for _, v := range environ {
		name, text, _ := strings.Cut(v, "=")
		pairs = append(pairs, name, text)
	}
	return env(pairs...)
}

func TestRepeatedFlags(t *testing.T) {
	flags := single(map[string]string{"source": "mongodb://h", "store": "memory", "to": "ndjson:-", "database": "d"})
	flags["collections"] = []string{"a", "b, c", "d"}
	flags["store"] = []string{"mysql://h", "file:x"} // the last one counts
	s, err := config.Read(config.Input{Flags: flags})
	if err != nil || s.Checkpoints.Store.Ref.Text != "file:x" || !reflect.DeepEqual(s.Watch.Collections, []string{"a", "b", "c", "d"}) {
		t.Errorf("got %v, %v", s.Watch.Collections, err)
	}
	for name, c := range map[string]struct {
		texts []string
		want  string
	}{
		"collections": {[]string{"a", "b,a"}, `--collections has an item twice: "a"`},
		"owner":       {[]string{"${USER}"}, `--owner has ${…} in it; only a file has such variables; let the shell fill it in, in double quotes`},
	} {
		was := flags[name]
		flags[name] = c.texts
		if _, err := config.Read(config.Input{Flags: flags}); err == nil || err.Error() != c.want {
			t.Errorf("\n got %v\nwant %s", err, c.want)
		}
		if flags[name] = was; was == nil {
			delete(flags, name)
		}
	}
}

func TestStandardInput(t *testing.T) {
	s, err := config.Read(config.Input{File: "-", Stdin: strings.NewReader(minimal), Env: env()})
	if err != nil || s.Watch.Database != "shop" {
		t.Errorf("got %+v, %v", s, err)
	}
	_, err = config.Read(config.Input{File: "-", Stdin: strings.NewReader(minimal + "nam: x\n"), Env: env()})
	if want := "standard input:5: nam is no field; did you mean name?"; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	if _, err = config.Read(config.Input{File: "-", Env: env()}); err == nil || !strings.HasPrefix(err.Error(), "standard input: the file is empty") {
		t.Errorf("got %v", err)
	}
}

// A home directory is meant wherever a path is.
func TestHomeDirectories(t *testing.T) {
	file := write(t, "source: mongodb://h\ndatabase: d\nstore:\n  url: file:$HOME/state\nto: ndjson:~/out?format=canonical\ndead-letters: ~/dead\n")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	s, err := config.Read(config.Input{File: file, Env: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{s.Checkpoints.Store.Ref.URL.Path, s.Output.To.Ref.URL.Path, s.Output.DeadLetters}
	want := []string{filepath.ToSlash(home) + "/state", filepath.ToSlash(home) + "/out", filepath.Join(home, "dead")}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if shown := s.Output.To.String(); shown != "ndjson:"+filepath.ToSlash(home)+"/out?format=canonical" {
		t.Errorf("shown as %s", shown)
	}
}
