package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

func TestExitCodes(t *testing.T) {
	store := func(err error) error {
		return fmt.Errorf("rigatoni: shop: %w", &state.Error{Op: "load", Store: "filestore", Key: "shop", Err: err})
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), exitFailure},
		{errLost, exitFailure},
		{usageError{errors.New("x")}, exitUsage},
		{store(state.ErrInvalid), exitUsage},
		{store(&state.HeldError{Owner: "a"}), exitHeld},
		{store(state.ErrFenced), exitHeld},
		{fmt.Errorf("x: %w: %w", rigatoni.ErrUnsaved, store(fmt.Errorf("%w: %w", state.ErrFenced, state.ErrLeaseExpired))), exitUnreachable},
		{fmt.Errorf("%w: %w: %w", state.ErrFenced, state.ErrLeaseExpired, &state.HeldError{Owner: "a"}), exitHeld},
		{store(fmt.Errorf("%w: %w", state.ErrUnavailable, syscall.ENOTDIR)), exitUsage},
		{store(state.ErrCorrupt), exitDecision},
		{store(state.ErrNewer), exitDecision},
		{store(state.ErrExpired), exitDecision},
		{fmt.Errorf("x: %w", rigatoni.ErrHistoryLost), exitDecision},
		{fmt.Errorf("x: %w", &rigatoni.FirstStartError{}), exitDecision},
		{fmt.Errorf("x: %w", rigatoni.ErrOutputExists), exitDecision},
		{fmt.Errorf("x: %w: %w", rigatoni.ErrCheckpointLost, state.ErrNotFound), exitDecision},
		{fmt.Errorf("x: %w", &rigatoni.ChangedStreamError{Accept: "abc"}), exitDecision},
		{store(state.ErrUnavailable), exitUnreachable},
		{fmt.Errorf("x: %w", rigatoni.ErrDestinationClosed), exitUnreachable},
		{fmt.Errorf("x: %w: %w", rigatoni.ErrDestinationClosed, state.ErrRefused), exitRefused}, // a table was dropped
		{store(state.ErrRefused), exitRefused},
		{fmt.Errorf("x: %w", mongo.CommandError{Code: 18}), exitRefused},
		{fmt.Errorf("x: %w", mongo.CommandError{Code: 11601}), exitFailure},
		{fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), exitUnreachable},
		{fmt.Errorf("x: %w", stopSignal{nil}), exitInterrupted},
		{&rigatoni.RefusedError{Err: errors.New("x")}, exitDecision},
		{&rigatoni.OutputError{Err: rigatoni.ErrOutputAhead, Accept: "abc"}, exitDecision},
		{&rigatoni.OutputError{Err: rigatoni.ErrOutputAhead}, exitDecision},
		{fmt.Errorf("x: %w: %w", rigatoni.ErrUndelivered, stopSignal{nil}), exitFailure},
		{fmt.Errorf("x: %w: %w", rigatoni.ErrUnsaved, store(state.ErrUnavailable)), exitUnreachable},
		{fmt.Errorf("x: %w", rigatoni.ErrUnsaved), exitFailure},
		{rigatoni.ErrDeliveryHung, exitFailure},
	} {
		if got, _ := judge(ending(c.err)); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
	for _, c := range exitCodes {
		if help := strings.Join(strings.Fields(exitCodesHelp()), " "); !strings.Contains(help, fmt.Sprintf("%d %s", c.code, c.meaning)) {
			t.Errorf("the help doesn't explain %d", c.code)
		}
	}
}

// The README has the same table.
func TestExitCodesInTheREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| exit code | means | start again? |\n|---|---|---|\n"
	for _, c := range exitCodes {
		table += fmt.Sprintf("| %d | %s | %s |\n", c.code, c.meaning, c.restart)
	}
	if !strings.Contains(string(text), table) {
		t.Errorf("README.md lacks this table:\n%s", table)
	}
}

// timeout(1) signals twice, within milliseconds, and a terminal that goes away does so
// too; that is one request to stop. A second Ctrl-C never is.
func TestSecondSignal(t *testing.T) {
	type sent struct {
		after time.Duration
		sig   os.Signal
		ends  bool
	}
	for name, c := range map[string][]sent{
		"SIGTERM twice":          {{0, syscall.SIGTERM, false}, {sameRequest - 1, syscall.SIGTERM, false}},
		"SIGTERM later":          {{0, syscall.SIGTERM, false}, {sameRequest, syscall.SIGTERM, true}},
		"Ctrl-C twice":           {{0, os.Interrupt, false}, {1, os.Interrupt, true}},
		"Ctrl-C after a SIGTERM": {{0, syscall.SIGTERM, false}, {1, os.Interrupt, true}},
		"SIGTERM after a Ctrl-C": {{0, os.Interrupt, false}, {1, syscall.SIGTERM, false}, {time.Minute, syscall.SIGTERM, true}},
		"the terminal goes":      {{0, syscall.SIGHUP, false}, {1, syscall.SIGHUP, false}, {time.Minute, syscall.SIGHUP, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 2)
				var first os.Signal
				second := false
				go func() {
					waitForSecond(signals, func(s os.Signal) { first = s })
					second = true
				}()
				for _, s := range c {
					time.Sleep(s.after)
					signals <- s.sig
					synctest.Wait()
					if second != s.ends {
						t.Errorf("after %v: ended %v", s, second)
					}
				}
				if first != c[0].sig {
					t.Errorf("stopped by %v", first)
				}
				close(signals)
			})
		})
	}
}

// The advice is a command that can be pasted, without passwords.
func TestAdvice(t *testing.T) {
	args := []string{"run", "--source", "mongodb://u:hunter2@h/?replicaSet=rs0", "--name", "it's", "p.yaml"}
	again := `rigatoni run --source 'mongodb://***@h/?replicaSet=rs0' --name 'it'\''s' p.yaml`
	for want, err := range map[string]error{
		"--accept-changed-stream=abc": &rigatoni.ChangedStreamError{Accept: "abc"},
		"--accept-output=def":         &rigatoni.OutputError{Err: rigatoni.ErrOutputAhead, Accept: "def"},
		"--lease-wait=1h":             &state.HeldError{Owner: "x"},
		"--dead-letters=DIR":          &rigatoni.RefusedError{Err: errors.New("x")},
	} {
		_, next := judge(err)
		if got := next.format(args); !strings.HasSuffix(got, ":\n    "+again+" "+want) {
			t.Errorf("%v: %s", err, got)
		}
		if got := next.format([]string{"demo"}); strings.Contains(got, want) {
			t.Errorf("for the demo: %s", got)
		}
	}
}

// A flag of the advice replaces the one that was given.
func TestAdviceReplacesFlags(t *testing.T) {
	_, next := judge(&state.HeldError{Owner: "x"})
	for _, args := range [][]string{
		{"run", "--lease-wait", "off", "p.yaml"}, {"run", "--lease-wait=off", "p.yaml"},
	} {
		if got := next.format(args); !strings.HasSuffix(got, "\n    rigatoni run p.yaml --lease-wait=1h") {
			t.Errorf("%v: %s", args, got)
		}
	}
	for err, want := range map[error]string{
		rigatoni.ErrHistoryLost: "run --accept-output x p.yaml --name NAME --start TIME",
	} {
		_, next := judge(err)
		if got := next.format([]string{"run", "--accept-output", "x", "--name", "n", "--start", "now", "p.yaml"}); !strings.HasSuffix(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// What checkpoint's commands can do is their own command line, with those flags that
// they take.
func TestCheckpointAdvice(t *testing.T) {
	for err, want := range map[error]string{
		rigatoni.ErrHistoryLost: "rigatoni checkpoint set p.yaml --to ndjson:- --store file:./s --source=mongodb://h --config c.yaml --one-each --to-oldest",
		state.ErrExpired:        "rigatoni checkpoint set p.yaml --to ndjson:- --store file:./s --source=mongodb://h --config c.yaml --one-each --to-time TIME",
		state.ErrCorrupt:        "rigatoni checkpoint clear p.yaml --to ndjson:- --store file:./s --source=mongodb://h --config c.yaml --one-each",
	} {
		got := formatAll(choices(err), []string{"run", "p.yaml", "--to", "ndjson:-", "--store", "file:./s", "--source=mongodb://h", "--lease-wait=off", "--config", "c.yaml", "--one-each", "--concurrency", "4"})
		if !strings.Contains(got, ":\n    "+want) {
			t.Errorf("%v: %s", err, got)
		}
		if got := choices(checkpointError{err}); got != nil {
			t.Errorf("in a command about checkpoints: %v", got)
		}
	}
}

func TestConsole(t *testing.T) {
	var b bytes.Buffer
	c := newConsole(&b, true)
	c.width = func() int { return 10 }
	c.show("123456789012")
	fmt.Fprintln(c, "message")
	c.show("next")
	c.clear()
	fmt.Fprintln(c, "end")
	if got, want := b.String(), eraseLine+"123456789"+eraseLine+"message\n123456789"+eraseLine+"next"+eraseLine+"end\n"; got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}

	b.Reset()
	c = newConsole(&b, false)
	c.show("status")
	fmt.Fprintln(c, "message")
	c.clear()
	if got := b.String(); got != "message\n" {
		t.Errorf("where there is no terminal: %q", got)
	}
}

func TestProgressLine(t *testing.T) {
	start := time.Unix(1_794_000_000, 0)
	m := meter{started: start}
	streaming := rigatoni.PhaseStreaming
	at := func(sec float64) time.Time { return start.Add(time.Duration(sec * float64(time.Second))) }
	for _, c := range []struct {
		at      float64
		streams []rigatoni.StreamStatus
		want    string
	}{
		{1, []rigatoni.StreamStatus{{Phase: rigatoni.PhaseOpening}}, "opening the stream"},
		{1, []rigatoni.StreamStatus{{Phase: rigatoni.PhaseLeasing}}, "acquiring the lease"},
		{1, []rigatoni.StreamStatus{{Phase: rigatoni.PhaseLeasing, Holder: "a\x1bb", HeldUntil: at(9)}},
			`waiting for the lease, which "a\x1bb" holds until ` + at(9).Local().Format(time.TimeOnly)},
		{1, []rigatoni.StreamStatus{{Phase: rigatoni.PhaseLeasing, Holder: "a"}}, `waiting for the lease, which "a" holds until it ends`},
		{2, []rigatoni.StreamStatus{{Phase: streaming, Events: 2500, Position: at(1), LastEvent: at(2), LastSave: at(1.5)}},
			"2,500 events · 1,250/s · lag 0.0 s · last checkpoint 0.5 s ago"},
		{12, []rigatoni.StreamStatus{ // the lag is that of the slower one
			{Phase: streaming, Events: 1_000_000, Position: at(12), LastEvent: at(12), LastSave: at(12)},
			{Phase: streaming, Events: 234_567, Position: at(1), LastEvent: at(2), LastSave: at(11), Retries: 3, SaveErrors: 1, DeadLetters: 2}},
			"1,234,567 events · 123,207/s · lag 10 s · last checkpoint 1.0 s ago · 3 retries · 1 failed saves · 2 dead letters"},
		{18, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(9), LastEvent: at(2), LastSave: at(11)}},
			"1,234,567 events · 0/s · idle · last checkpoint 7.0 s ago"},
		{900, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(9), LastEvent: at(2), LastSave: at(11)}, {Phase: rigatoni.PhaseRewinding, Position: at(20), LastSave: at(20)}},
			"1,234,567 events · 0/s · lag 14 min · last checkpoint 14 min ago · 1 of 2 streams open · going back to the last checkpoint"},
		// A server that doesn't answer is never idle, and its lag is unknown.
		{901, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(900), LastSave: at(900), Outage: at(889)}},
			"1,234,567 events · 0/s · no answer from MongoDB for 12 s · last checkpoint 1.0 s ago"},
		{902, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(900), LastSave: at(900)}, {Phase: streaming, Position: at(900), LastSave: at(900), Outage: at(900)}},
			"1,234,567 events · 0/s · no answer from MongoDB for 2.0 s (1 of 2 streams) · last checkpoint 2.0 s ago"},
		{903, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(902), LastSave: at(902), InFlight: 3, Retries: 2}},
			"1,234,567 events · 0/s · lag 1.0 s · last checkpoint 1.0 s ago · 2 retries"},
		{903.5, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(902), LastSave: at(902), StoreFailed: at(898)}},
			"1,234,567 events · 0/s · idle · last checkpoint 1.5 s ago · the store fails for 5.5 s"},
		{903.5, []rigatoni.StreamStatus{{Phase: streaming, Events: 1_234_567, Position: at(903.5), LastSave: at(903), Snapshot: &rigatoni.SnapshotStatus{Documents: 400, DocumentsEstimated: 1000, ETA: time.Minute}},
			{Phase: streaming, Position: at(903.5), LastSave: at(903)}, {Phase: streaming, Position: at(903.5), LastSave: at(903), Snapshot: &rigatoni.SnapshotStatus{Documents: 90}}},
			"snapshot 49%, 490 of about 1,000 documents, 60 s left · 1,234,567 events · 0/s · idle · last checkpoint 0.5 s ago"},
		{904, []rigatoni.StreamStatus{{Phase: rigatoni.PhaseStopping, Events: 1_234_567, Position: at(902), LastSave: at(902), InFlight: 1200}},
			"1,234,567 events · 0/s · last checkpoint 2.0 s ago · stopping, 1,200 events in hand"},
	} {
		if got := m.measure(total(c.streams), at(c.at)).line(); got != c.want {
			t.Errorf("at %v s:\n got %s\nwant %s", c.at, got, c.want)
		}
	}
}

func TestProgressAttributes(t *testing.T) {
	at := time.Unix(1_794_000_000, 0)
	var b bytes.Buffer
	p := progress{total([]rigatoni.StreamStatus{{Phase: rigatoni.PhaseStreaming, Events: 5, Saves: 2, Position: at, LastSave: at}}), at.Add(640 * time.Millisecond), 2.55}
	newLogger(newConsole(&b, false), logFormat{}).LogAttrs(t.Context(), slog.LevelInfo, "progress", p.attrs()...)
	want := "msg=progress events=5 events_per_second=2.6 saves=2 retries=0 save_errors=0 dead_letters=0 lag_seconds=0.6 checkpoint_age_seconds=0.6\n"
	if got := b.String(); !strings.HasSuffix(got, want) {
		t.Errorf("\n got %swant %s", got, want)
	}
	b.Reset()
	p.sum.snapshot = &rigatoni.SnapshotStatus{Documents: 4, DocumentsEstimated: 10, CollectionsDone: 1, CollectionsTotal: 2, ETA: 90 * time.Second}
	newLogger(newConsole(&b, false), logFormat{}).LogAttrs(t.Context(), slog.LevelInfo, "progress", p.attrs()...)
	want = " snapshot_documents=4 snapshot_documents_estimated=10 snapshot_collections_done=1 snapshot_collections=2 snapshot_eta_seconds=90 checkpoint_age_seconds=0.6\n"
	if got := b.String(); !strings.HasSuffix(got, want) {
		t.Errorf("\n got %swant %s", got, want)
	}
}

func TestLogFormats(t *testing.T) {
	var b bytes.Buffer
	newLogger(newConsole(&b, false), logFormat{level: "warn", format: "json"}).Warn("x")
	newLogger(newConsole(&b, false), logFormat{level: "warn"}).Info("not this")
	newLogger(newConsole(&b, false), logFormat{level: "debug", format: "text"}).Debug("y", "a", 1)
	if got := b.String(); !strings.HasPrefix(got, "{") || strings.Contains(got, "not this") || !strings.Contains(got, "msg=y a=1") {
		t.Errorf("got %s", got)
	}
}

func TestFailureOnOneScreen(t *testing.T) {
	var b bytes.Buffer
	m := newMessages(world{stderr: &b, env: func(string) (string, bool) { return "", false }})
	m.failed(errors.New("rigatoni: shop.a\x1b[2J\u009b\nrigatoni: forged"), exitFailure)
	if got, want := b.String(), "rigatoni: shop.a\\x1b[2J\\u009b\n  rigatoni: forged\n"; got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// Values have no secrets, whatever their type; keys stay. JSON has no raw control
// character.
func TestSecretsInTheLog(t *testing.T) {
	for _, format := range []string{"text", "json", "people"} {
		var b bytes.Buffer
		f := logFormat{format: format, terminal: format == "people", scrub: config.NewScrubber("mongodb://u:level@h", "redis://:h%22nter2@h")}
		log := newLogger(&b, f).With("pipeline", "a").WithGroup("g")
		log.Warn("the level of h\"nter2", "level", "info", "n", 7, "err", fmt.Errorf("mongodb://u:level@h: %q \u009b (ConnectTimeout)", "h\"nter2"),
			slog.Group("x", "any", []string{"h\"nter2"}), "empty", "")
		got := b.String()
		if strings.Contains(got, "nter2") || strings.Contains(got, ":level@") || strings.Contains(got, "\u009b") || strings.Contains(got, "ConnectTimeout") ||
			!strings.Contains(got, "the level of") || strings.Count(got, "\n") != 1 || strings.Contains(got, "*** of") {
			t.Errorf("%s: %s", format, got)
		}
		if format != "json" {
			continue
		}
		var line map[string]any
		if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["level"] != "WARN" || line["g"].(map[string]any)["level"] != "info" {
			t.Errorf("%v: %s", err, got)
		}
	}
}

func TestVersionLine(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}}
	if got, want := versionLine(info), "rigatoni v1.2.3 (commit 0123456789ab with changes, go1."; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want it to begin with %s", got, want)
	}
	if got, want := versionLine(&debug.BuildInfo{}), "rigatoni (devel) (go1."; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want it to begin with %s", got, want)
	}
}

// Every option of the pipeline reaches it, and so do the start and the rest.
func TestSettingsReachThePipeline(t *testing.T) {
	flags := map[string]string{"source": "mongodb://h", "store": "memory:", "to": "ndjson:-", "name": "n", "start": "1.2", "accept-first-start": "abc"}
	want := map[string]string{}
	for _, o := range option.Of(&rigatoni.Config{}) {
		value := map[string]string{"N": "7", "SIZE": "8", "DURATION": "9s", "": "true"}[o.Arg]
		flags[o.Name] = cmp.Or(value, "text")
		if o.Name == "on-history-lost" {
			flags[o.Name] = "now"
		}
		if o.Name == "snapshot" {
			flags[o.Name] = "never"
		}
		want[o.Name] = flags[o.Name]
	}
	given := map[string][]string{}
	for name, text := range flags {
		given[name] = []string{text}
	}
	s, err := config.Read(config.Input{Flags: given})
	if err != nil {
		t.Fatal(err)
	}
	c := pipelineConfig(s, nil, nil, nil, slog.Default())
	if c.Name != "n" || c.FirstStart != (rigatoni.FirstStart{Time: bson.Timestamp{T: 1, I: 2}, Accept: "abc"}) {
		t.Errorf("got %+v", c)
	}
	for _, o := range option.Of(&c) {
		if got := strings.Join(o.Text(&c), ","); got != want[o.Name] {
			t.Errorf("%s is %s, want %s", o.Name, got, want[o.Name])
		}
	}
}

func TestProcesses(t *testing.T) {
	v := newProcessesView(style{}, 1000)
	var b bytes.Buffer
	c := newConsole(&b, false)
	now := time.Now()
	processes := []crashtest.Process{
		{N: 1, Ended: now, Killed: true, Lines: 250},
		{N: 2, Ended: now, Killed: true, Resumed: 200, Lines: 300, Again: 50},
		{N: 3, Ended: now, Killed: true, Resumed: 400},
		{N: 4, Ended: now, Killed: true, Resumed: 400, Lines: 50, Again: 50},
		{N: 5, Resumed: 400, Streaming: true},
	}
	v.update(c, crashtest.Progress{Processes: processes[:1]})
	v.update(c, crashtest.Progress{Processes: processes}) // the last one still runs: no line yet
	processes[4].Ended, processes[4].Lines, processes[4].Again = now, 600, 100
	v.update(c, crashtest.Progress{Processes: processes})
	want := `     1  the start            250          ✗ 250         ██████████✗
     2  event 200            300      50  ✗ 500         ········░░██████████✗
     3  event 400              0          ✗ 400         ················✗
     4  event 400             50      50  ✗ 450         ················░░✗
     5  event 400            600     100  stop 1,000    ················░░░░████████████████████
`
	if got := b.String(); got != want {
		t.Errorf("\n got\n%s\nwant\n%s", got, want)
	}
}

func TestColourIsForTerminalsThatWantIt(t *testing.T) {
	env := func(no, term string) func(string) (string, bool) {
		return func(name string) (string, bool) { return map[string]string{"NO_COLOR": no, "TERM": term}[name], true }
	}
	for _, c := range []struct {
		w    world
		want bool
	}{
		{world{stdoutTerminal: true, env: env("", "xterm")}, true},
		{world{stdoutTerminal: false, env: env("", "xterm")}, false},
		{world{stdoutTerminal: true, env: env("1", "xterm")}, false},
		{world{stdoutTerminal: true, env: env("", "dumb")}, false},
	} {
		if got := newStyle(c.w, c.w.stdoutTerminal).colour; got != c.want {
			t.Errorf("terminal %v: colour %v", c.w.stdoutTerminal, got)
		}
	}
}

func TestDemoWithoutAMongodSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var out, errs bytes.Buffer
	code := run(t.Context(), world{args: []string{"demo", "--mongod"}, stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }})
	if code != exitFailure || !strings.Contains(errs.String(), `run "make demo" in the repository`) || !strings.Contains(errs.String(), "omit --mongod") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}
