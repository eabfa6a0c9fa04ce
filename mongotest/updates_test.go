package mongotest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// Random updates, including failing ones, result in the same documents as on a
// real server, and in the same events.
func TestRandomUpdates(t *testing.T) { playRandomly(t, randomUpdates) }

// playRandomly runs a random script on both.
func playRandomly(t *testing.T, play func(*script, *rand.Rand)) {
	t.Helper()
	uri := mongod.ForTest(t).URI
	seed := campaign.Seed(t)
	for i := range campaign.Size(t, "RIGATONI_UPDATES", 1000, 20) {
		run := func(s *script) { play(s, rand.New(rand.NewPCG(seed, uint64(i)))) }
		db := fmt.Sprintf("%s_%d", strings.ToLower(t.Name()), i)
		want := perform(t, uri, db, nil, run)
		got := perform(t, Start(t).URI(), db, nil, run)
		if compareTranscripts(t, fmt.Sprintf("number %d of seed %d", i, seed), got, want); t.Failed() {
			return
		}
	}
}

func randomUpdates(s *script, rng *rand.Rand) {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	path := func() string {
		return `"` + pick("a", "b", "l", "d", "a.b", "a.0", "l.0", "l.2", "l.x", "l.1.y", "d.e", "d.e.f", "d.0", "n", "n.1.0") + `"`
	}
	value := func() string {
		return pick(`1`, `2.5`, `{"$numberLong": "7"}`, `"x"`, `null`, `true`, `[]`, `[1, 2, 3]`, `[{"y": 1}, {"y": 2}, 3]`, `{}`, `{"e": 1}`, `{"e": {"f": [1]}, "0": 2}`)
	}
	operator := func() string {
		switch pick("set", "set", "set", "unset", "inc", "mul", "min", "push", "each", "addToSet", "pull", "pop", "rename") {
		case "unset":
			return `"$unset": {` + path() + `: 1}`
		case "inc":
			return `"$inc": {` + path() + `: ` + pick("1", "-2", "0.5") + `}`
		case "mul":
			return `"$mul": {` + path() + `: ` + pick("2", "0", "0.5") + `}`
		case "min":
			return pick(`"$min"`, `"$max"`) + `: {` + path() + `: ` + value() + `}`
		case "push":
			return `"$push": {` + path() + `: ` + value() + `}`
		case "each":
			return `"$push": {` + path() + `: {"$each": [` + value() + `, ` + value() + `]` + pick("", `, "$position": 1`, `, "$slice": 3`, `, "$slice": -2`) + `}}`
		case "addToSet":
			return `"$addToSet": {` + path() + `: ` + value() + `}`
		case "pull":
			return pick(`"$pull": {`+path()+`: `+pick("1", "3", `{"y": 1}`, `{"$gte": 2}`)+`}`, `"$pullAll": {`+path()+`: [1, 3, "x"]}`)
		case "pop":
			return `"$pop": {` + path() + `: ` + pick("1", "-1") + `}`
		case "rename":
			return `"$rename": {` + path() + `: ` + path() + `}`
		}
		return `"$set": {` + path() + `: ` + value() + `, ` + path() + `: ` + value() + `}`
	}
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "l": [1, {"y": 1}, 3], "d": {"e": {"f": 1}}}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	for range 25 {
		u := operator()
		if second := operator(); rng.IntN(3) == 0 && second[:5] != u[:5] { // a field may not come twice
			u += ", " + second
		}
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {` + u + `}}]}`)
		s.run(`{"find": "c"}`)
	}
	s.more("w", "c")
}

// So do random updates by a pipeline, where the server must find out what
// changed.
func TestRandomPipelineUpdates(t *testing.T) {
	playRandomly(t, randomPipelineUpdates)
}

func randomPipelineUpdates(s *script, rng *rand.Rand) {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	path := func() string {
		return `"` + pick("a", "b", "l", "d", "a.b", "l.y", "l.y.z", "d.e", "d.e.f", "d.l", "n", "n.m", "longer") + `"`
	}
	value := func() string {
		return pick(`1`, `2.5`, `"x"`, `"a longer text"`, `null`, `true`, `[]`, `[1, 2, 3]`, `[1, 2]`, `[1, 2, 3, 4, 5, 6, 7]`, `[{"y": 1}, {"y": 2}, 3]`, `{"e": 1}`,
			`"$a"`, `"$d"`, `"$l"`, `"$l.y"`, `"$d.e"`, `"$d.l"`, `"$$ROOT"`, `"$$REMOVE"`, `["$a", "$l", {"y": "$b"}]`, `{"$literal": {"e": {"f": [1]}, "0": 2}}`)
	}
	stage := func() string {
		switch pick("set", "set", "set", "unset", "project", "replace") {
		case "unset":
			return `{"$unset": [` + path() + `]}`
		case "project":
			return `{"$project": {` + path() + `: ` + pick("0", "0", "1") + `}}`
		case "replace":
			return pick(`{"$replaceWith": {"_id": "$_id", "d": "$d", "l": "$l", "a": "$a", "n": `+value()+`}}`, `{"$replaceRoot": {"newRoot": {"x": "$$ROOT", "a": `+value()+`}}}`,
				`{"$replaceWith": {"b": "$b", "_id": "$_id", "longer": "$longer", "d": "$d", "l": `+value()+`}}`)
		}
		return pick(`{"$set": {`, `{"$addFields": {`) + path() + `: ` + value() + `}}`
	}
	s.run(`{"insert": "c", "documents": [{"_id": 1, "a": 1, "l": [1, {"y": 1, "z": "something"}, 3, 4, 5, 6], "d": {"l": [1, 2, 3, {"y": "of some length"}, 5], "e": {"f": 1}}, "longer": "so that there is something to compare it with"}]}`)
	s.watch("w", `"c"`, `[{"$changeStream": {}}]`)
	for range 25 {
		u := stage()
		// No removed field is set again, see the package documentation.
		if second := stage(); rng.IntN(3) == 0 && (strings.HasPrefix(second, `{"$unset"`) || strings.HasPrefix(second, `{"$project"`)) {
			u += ", " + second
		}
		s.run(`{"update": "c", "updates": [{"q": {"_id": 1}, "u": [` + u + `]}]}`)
		s.run(`{"find": "c"}`)
	}
	s.more("w", "c")
}
