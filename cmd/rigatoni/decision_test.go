package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/state"
)

// What can be done about a first start that is refused, a lost checkpoint and a start
// time that is too old are commands that can be pasted, with the facts in them.
// The names of packages are nothing for users, in a report as in a message.
func TestReportsAreInUsersWords(t *testing.T) {
	err := fmt.Errorf("rigatoni: b: opening the stream: changestream: shop: Options.FullDocument does not fit")
	want := "opening the stream: shop: full-document does not fit"
	if r := startOf(rigatoni.StartCheck{Key: "b", Err: err}, config.Settings{}, time.Now()); r.Error != want {
		t.Errorf("the start: %s", r.Error)
	}
	if p := partOf("server", "", err); p.Error != "b: "+want {
		t.Errorf("a part: %s", p.Error)
	}
}

func TestChoices(t *testing.T) {
	at := bson.Timestamp{T: 1794000000, I: 2}
	other := func(key string) rigatoni.Finding {
		return rigatoni.Finding{Err: rigatoni.ErrOtherCheckpoint, Key: key, ClusterTime: at}
	}
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"renamed": {&rigatoni.FirstStartError{Key: "b", Accept: "abc", Found: []rigatoni.Finding{other("a")}}, []string{
			"rigatoni run p.yaml --name a", "rigatoni run p.yaml --name b --start 1794000000.2 --accept-first-start=abc", "rigatoni run p.yaml --name b --start now --accept-first-start=abc",
		}},
		"renamed, one of each": {&rigatoni.FirstStartError{Key: "b/x", Accept: "abc", Found: []rigatoni.Finding{other("a/x")}}, []string{
			"rigatoni run p.yaml --name a", "rigatoni run p.yaml --name b --start 1794000000.2 --accept-first-start=abc", "rigatoni run p.yaml --name b --start now --accept-first-start=abc",
		}},
		"several names": {&rigatoni.FirstStartError{Key: "b", Accept: "abc", Found: []rigatoni.Finding{other("a"), other("c")}}, []string{
			"rigatoni run p.yaml --name b --start 1794000000.2 --accept-first-start=abc", "rigatoni run p.yaml --name b --start now --accept-first-start=abc",
		}},
		"without a time": {&rigatoni.FirstStartError{Key: "b", Accept: "abc", Found: []rigatoni.Finding{{Err: &rigatoni.OutputError{Err: rigatoni.ErrOutputExists}}}}, []string{
			"rigatoni run p.yaml --name b --start now --accept-first-start=abc",
		}},
		"none": {&rigatoni.FirstStartError{Key: "b", Found: []rigatoni.Finding{{Err: rigatoni.ErrNoFirstStart}}}, []string{"rigatoni run p.yaml --name b --start TIME"}},
		"lost": {&rigatoni.LostError{Key: "b", Accept: "abc", Checkpoint: state.Checkpoint{ClusterTime: at}}, []string{
			"rigatoni run p.yaml --name b --start 1794000000.2 --accept-first-start=abc", "rigatoni run p.yaml --name b --start now --accept-first-start=abc",
		}},
		"output that is missing": {&rigatoni.OutputError{Err: fmt.Errorf("gone"), Accept: "abc", Since: at}, []string{
			"rigatoni checkpoint set p.yaml --name b --to-time 1794000000.2",
		}},
		"a start time that is too old": {&rigatoni.HistoryLostError{Key: "b", ClusterTime: bson.Timestamp{T: 1}, Oldest: at, Err: rigatoni.ErrHistoryLost}, []string{
			"rigatoni run p.yaml --name b --start 1794000000.2",
		}},
		"a checkpoint that is too old": {&rigatoni.HistoryLostError{Key: "b", ClusterTime: bson.Timestamp{T: 1}, SavedAt: time.Now(), Oldest: at, Err: rigatoni.ErrHistoryLost}, []string{
			"rigatoni checkpoint set p.yaml --name b --to-oldest",
		}},
		"a checkpoint whose token is of no use": {&rigatoni.HistoryLostError{Key: "b", ClusterTime: at, SavedAt: time.Now(), Oldest: bson.Timestamp{T: 1}, Err: rigatoni.ErrHistoryLost}, []string{
			"rigatoni checkpoint set p.yaml --name b --to-oldest", "rigatoni checkpoint set p.yaml --name b --to-time 1794000000.2",
		}},
	} {
		err := fmt.Errorf("rigatoni: b: %w", c.err)
		var got []string
		for line := range strings.SplitSeq(formatAll(choices(err), []string{"run", "p.yaml", "--name", "b"}), "\n") {
			if command, ok := strings.CutPrefix(line, "    "); ok {
				got = append(got, command)
			}
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
		if name == "output that is missing" {
			continue // what accepts it is judge's
		}
		if code, more := judge(ending(err)); code != exitDecision || more.text != "" {
			t.Errorf("%s: exit code %d, and also %v", name, code, more)
		}
	}
}
