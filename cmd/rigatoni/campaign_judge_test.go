package main

import (
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A record is what was seen while a campaign ran.
type record struct {
	campaign  campaign
	seen      []sighting
	streaming map[int]time.Time // since when at the latest, by the process's number
}

// A sighting is the number of changes that had arrived by a time, at least.
type sighting struct {
	at      time.Time
	arrived int
}

func (r *record) watch(p crashtest.Progress) {
	now := time.Now()
	r.seen = append(r.seen, sighting{now, p.Arrived})
	if n := len(p.Processes); n > 0 && p.Processes[n-1].Streaming && r.streaming[n].IsZero() {
		r.streaming[n] = now
	}
}

// arrivedBy is how many changes had certainly arrived by a time.
func (r *record) arrivedBy(t time.Time) int {
	n := sort.Search(len(r.seen), func(i int) bool { return !r.seen[i].at.Before(t) })
	if n == 0 {
		return 0
	}
	return r.seen[n-1].arrived
}

// oldest is when the oldest of some checkpoints was saved; zero if there are none.
func oldest(checkpoints map[string]state.Checkpoint) (at time.Time) {
	for _, cp := range checkpoints {
		if at.IsZero() || cp.SavedAt.Before(at) {
			at = cp.SavedAt
		}
	}
	return at
}

// age is how old the checkpoint was when a process was killed, counted from when
// that process could first have saved one; false if it never could.
func (r *record) age(killed, next crashtest.Process) (time.Duration, bool) {
	from, ok := r.streaming[killed.N]
	if saved := oldest(next.Checkpoints); saved.After(from) {
		from = saved
	}
	return killed.Ended.Sub(from), ok
}

// judge returns what is wrong, in sentences.
//
// What was lost, made up, out of order, or came again without need, is among the
// result's own faults. That nothing is lost says that no checkpoint was ahead of
// what had been delivered: what is before one is never redelivered.
func (r *record) judge(res *crashtest.Result) (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if res.Lost > 0 {
		add("%d changes were written and never arrived", res.Lost)
	}
	if res.Progress.Twice > 0 {
		add("%d lines of finished files are repeats", res.Progress.Twice)
	}
	if res.Progress.Finished != r.campaign.changes && res.FaultCount == 0 {
		add("%d changes are in finished files, not %d", res.Progress.Finished, r.campaign.changes)
	}
	if res.FaultCount > 0 {
		add("%d faults, of which the first are:", res.FaultCount)
		wrong = append(wrong, res.Faults...)
	}
	if got := res.Inserts + res.Updates + res.Deletes; got != r.campaign.changes || res.Progress.Arrived != r.campaign.changes && res.FaultCount == 0 {
		add("%d changes were meant to be written, %d were, and %d arrived", r.campaign.changes, got, res.Progress.Arrived)
	}
	kills, fruitful := 0, 0
	var ages []time.Duration
	for i, next := range res.Progress.Processes[1:] {
		proc := res.Progress.Processes[i]
		if proc.Killed {
			kills++
			if proc.Lines > 0 {
				fruitful++
			}
			if age, ok := r.age(proc, next); ok {
				ages = append(ages, age)
			}
		}
		// What had arrived when the checkpoint was saved is before it, so that at most
		// what was delivered since and what was in flight is redelivered.
		saved := oldest(next.Checkpoints)
		if n := r.arrivedBy(saved); n > next.Resumed {
			add("process %d: of the %d changes that had arrived when the checkpoint was saved, only %d are before it", next.N, n, next.Resumed)
		}
		if most := next.Before - next.Resumed; next.Again > most {
			add("process %d: %d changes were redelivered, more than the %d delivered since the checkpoint", next.N, next.Again, most)
		}
	}
	meant := r.campaign.kills
	if r.campaign.killNow != nil {
		meant++
	}
	// A short run on a slow machine may be over before its last kill is due.
	if kills > meant || kills < min(meant, 1) {
		add("it was killed %d times, not %d", kills, meant)
	}
	if fruitful == 0 || !r.campaign.anytime && fruitful < (kills+1)/2 {
		add("only %d of %d killed processes had delivered anything, which shows little", fruitful, kills)
	}
	return append(wrong, r.judgeAges(ages)...)
}

// judgeAges checks that checkpoints are saved as often as configured. Most of them:
// a busy machine or a server in trouble may delay one.
func (r *record) judgeAges(ages []time.Duration) []string {
	if len(ages) == 0 || r.campaign.disturb != nil {
		return nil
	}
	slices.Sort(ages)
	if median, most := ages[len(ages)/2], r.campaign.interval+1500*time.Millisecond; median > most {
		return []string{fmt.Sprintf("when the process was killed, the checkpoint was %v old in the median, with an interval of %v", median, r.campaign.interval)}
	}
	return nil
}

// tell logs each process, and the sum.
func (r *record) tell(t *testing.T, res *crashtest.Result) {
	t.Helper()
	t.Logf("%4s %8s %9s %9s %7s %7s  %s", "run", "began s", "saved", "delivered", "again", "lines", "ended")
	most := 0
	for i, proc := range res.Progress.Processes {
		ended := proc.Exit
		if i+1 < len(res.Progress.Processes) {
			if age, ok := r.age(proc, res.Progress.Processes[i+1]); ok {
				ended += fmt.Sprintf(", the checkpoint %d ms old", age.Milliseconds())
			} else {
				ended += ", not yet streaming"
			}
		}
		t.Logf("%4d %8.1f %9d %9d %7d %7d  %s", proc.N, proc.Started.Sub(res.Progress.Processes[0].Started).Seconds(),
			proc.Resumed, proc.Before, proc.Again, proc.Lines, ended)
		most = max(most, proc.Again)
	}
	t.Logf("%d inserts, %d updates, %d deletes in %.1f s; %d processes; in finished files %d, of them twice %d, lost %d; delivered again, and cut back before, %d (at most %d in one process)",
		res.Inserts, res.Updates, res.Deletes, res.Took.Seconds(), len(res.Progress.Processes), res.Progress.Finished, res.Progress.Twice, res.Lost, res.Progress.Redelivered, most)
}
