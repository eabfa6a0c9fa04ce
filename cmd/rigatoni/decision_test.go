package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// What can be done about a first start that is refused, a lost checkpoint and a start
// time that is too old are commands that can be pasted, with the facts in them.
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
		"a start time that is too old": {&rigatoni.HistoryLostError{Key: "b", ClusterTime: bson.Timestamp{T: 1}, Oldest: at, Err: rigatoni.ErrHistoryLost}, []string{
			"rigatoni run p.yaml --name b --start 1794000000.2",
		}},
		"a checkpoint that is too old": {&rigatoni.HistoryLostError{Key: "b", SavedAt: time.Now(), Oldest: at, Err: rigatoni.ErrHistoryLost}, []string{
			"rigatoni checkpoint set p.yaml --name b --to-oldest", "rigatoni checkpoint set p.yaml --name b --to-time TIME",
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
		if code, _ := judge(ending(err)); code != exitDecision {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}
