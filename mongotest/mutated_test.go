package mongotest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// recordedCommands returns the commands in the transcripts of the scripts.
func recordedCommands(t *testing.T) (all []bson.D) {
	files, err := filepath.Glob("testdata/behaviour/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			command, ok := strings.CutPrefix(line, "> ")
			var d bson.D
			if !ok || bson.UnmarshalExtJSON([]byte(strings.TrimPrefix(command, "admin ")), false, &d) != nil || d[0].Key == "configureFailPoint" {
				continue
			}
			all = append(all, d)
		}
	}
	return all
}

// A mutator changes commands at random: fields and elements are removed, or
// replaced, also by parts of other commands.
type mutator struct {
	rng   *rand.Rand
	parts []any
}

func (m *mutator) gather(v any) {
	m.parts = append(m.parts, v)
	switch v := v.(type) {
	case bson.D:
		for _, e := range v {
			m.gather(e.Value)
		}
	case bson.A:
		for _, item := range v {
			m.gather(item)
		}
	}
}

func (m *mutator) mutate(v any, top bool) any {
	if !top && m.rng.IntN(12) == 0 {
		return m.parts[m.rng.IntN(len(m.parts))]
	}
	switch v := v.(type) {
	case bson.D:
		out := bson.D{}
		for i, e := range v {
			if (i > 0 || !top) && m.rng.IntN(15) == 0 {
				continue
			}
			out = append(out, bson.E{Key: e.Key, Value: m.mutate(e.Value, false)})
		}
		return out
	case bson.A:
		out := bson.A{}
		for _, item := range v {
			if m.rng.IntN(15) > 0 {
				out = append(out, m.mutate(item, false))
			}
		}
		return out
	}
	return v
}

// Commands that are almost right get a reply, whatever is wrong with them.
func TestMutatedCommands(t *testing.T) {
	commands := recordedCommands(t)
	rng := rand.New(rand.NewPCG(campaign.Seed(t), 0))
	m := &mutator{rng: rng, parts: []any{nil, true, int32(-1), int64(1) << 62, 0.5, "", "$x", bson.D{}, bson.A{}, bson.MinKey{}, bson.Regex{Pattern: "("}}}
	for _, d := range commands {
		m.gather(d)
	}
	s, err := Listen(t.Context(), Options{OplogEntries: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, server := net.Pipe()
	defer client.Close()
	for range campaign.Size(t, "RIGATONI_COMMANDS", 1_000_000, 20_000) {
		d := m.mutate(commands[rng.IntN(len(commands))], true).(bson.D)
		raw, err := bson.Marshal(append(d, bson.E{Key: "$db", Value: []string{"shop", "admin"}[rng.IntN(2)]}))
		if err != nil {
			continue
		}
		msg, err := readMessage(bytes.NewReader(request2frame(1, raw)))
		if err != nil {
			continue
		}
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					t.Fatalf("%v\n%v", bson.Raw(raw), problem)
				}
			}()
			c := &conn{server: s, net: server, gone: make(chan struct{})}
			defer time.AfterFunc(5*time.Millisecond, c.close).Stop()
			if reply := s.answer(c, msg); reply != nil && !checkDoc(reply, 1) {
				t.Errorf("a broken reply to %v: %x", bson.Raw(raw), []byte(reply))
			}
		}()
	}
}
