package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/crashtest"
	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// style colours text, on a terminal and unless NO_COLOR forbids it
// (https://no-color.org).
type style struct{ colour bool }

// newStyle is the style of an output that is a terminal or not.
func newStyle(w world, terminal bool) style {
	no, _ := w.env("NO_COLOR")
	return style{terminal && no == "" && !w.dumb()}
}

// dumb reports whether the terminal knows no control sequences.
func (w world) dumb() bool {
	name, _ := w.env("TERM")
	return name == "dumb"
}

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string { return s.paint("1", t) }
func (s style) dim(t string) string  { return s.paint("2", t) }
func (s style) good(t string) string { return s.paint("32", t) }
func (s style) bad(t string) string  { return s.paint("31", t) }
func (s style) warn(t string) string { return s.paint("33", t) }

// barWidth is how many columns all changes take.
const barWidth = 40

// processesView shows each process of the pipeline as a line: where it began, what it
// delivered, and where it was killed. The last one moves while it runs.
type processesView struct {
	style style
	total int
	copy  bool // of a copy: the numbers are those of its documents
	shown int  // the lines that are final
}

func newProcessesView(s style, total int) *processesView {
	return &processesView{style: s, total: total}
}

// newCopyView shows how far a copy of some documents gets.
func newCopyView(s style, documents int) *processesView {
	return &processesView{style: s, total: documents, copy: true}
}

const processColumns = "  %4s  %-14s %9s %7s  %-12s  "

func (v *processesView) header() string {
	scale := fmt.Sprintf("0%*s", barWidth, grouped(v.total))
	what := "delivered"
	if v.copy {
		what = "copied"
	}
	return v.style.dim(fmt.Sprintf(processColumns+"%s\n", "run", "begins after", what, "again", "ends at", scale))
}

// update shows the state of the run.
func (v *processesView) update(c *console, p crashtest.Progress) {
	for _, l := range p.Processes[v.shown:] {
		if l.Ended.IsZero() {
			c.show(v.line(l, style{})) // cut to the width, which colours would mislead
			return
		}
		c.show("")
		fmt.Fprintln(c, v.line(l, v.style))
		v.shown++
	}
}

func (v *processesView) line(l crashtest.Process, s style) string {
	from := "event " + grouped(l.Resumed)
	switch {
	case l.N == 1:
		from = "the start"
	case v.copy:
		from = grouped(l.Resumed) + " copied"
	}
	again, end := "", ""
	if l.Again > 0 {
		again = grouped(l.Again)
	}
	switch {
	case l.Killed:
		end = fmt.Sprintf("✗ %s", grouped(l.Resumed+l.Lines))
	case !l.Ended.IsZero():
		end = "stop " + grouped(l.Resumed+l.Lines)
	case !l.Streaming:
		end = "starting"
	}
	return fmt.Sprintf(processColumns, fmt.Sprint(l.N), from, grouped(l.Lines), again, end) + v.bar(l, s)
}

// bar draws what was delivered again, and what for the first time.
func (v *processesView) bar(l crashtest.Process, s style) string {
	at := func(event int) int { return min(barWidth, event*barWidth/max(1, v.total)) }
	from, reached := at(l.Resumed), at(l.Resumed+l.Lines)
	again := at(l.Resumed+l.Again) - from
	if l.Again > 0 && again == 0 && reached > from {
		again = 1 // at least one column
	}
	again = min(again, reached-from) // of a copy, repeats are not only of its documents
	fresh := reached - from - again
	end := ""
	if l.Killed {
		end = s.bad("✗")
	}
	return s.dim(strings.Repeat("·", from)) + s.warn(strings.Repeat("░", again)) + s.good(strings.Repeat("█", fresh)) + end
}

// checkpoint shows the last checkpoint, decoded.
func (d *demo) checkpoint(ctx context.Context, store state.Store) error {
	cp, err := store.Load(ctx, d.database)
	if err != nil {
		return fmt.Errorf("reading the last checkpoint: %w", err)
	}
	d.printf("\n  %s  %s\n", d.style.bold("The checkpoint"), d.where())
	rows := [][2]string{
		{"key", d.database},
		{"saved", cp.SavedAt.UTC().Format("2006-01-02 15:04:05.000 MST") + fmt.Sprintf(", save %d, epoch %d", cp.Sequence, cp.Epoch)},
		{"resume token", fmt.Sprintf("%d bytes, which say:", cp.Token.Len())},
	}
	columns(d.screen, append(rows, d.decoded(ctx, cp.Token)...))
	return nil
}

// where is the file, or the store's URL.
func (d *demo) where() string {
	dir, ok := strings.CutPrefix(d.flags.store, "file:")
	if !ok {
		return config.Redact(d.flags.store)
	}
	files, _ := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.json"))
	var newest string
	var at time.Time
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.ModTime().After(at) {
			newest, at = f, info.ModTime()
		}
	}
	return cmp.Or(newest, dir)
}

func (d *demo) decoded(ctx context.Context, t resumetoken.Token) [][2]string {
	dec, err := t.Decode()
	if err != nil {
		return [][2]string{{"  opaque", "unknown format: " + err.Error()}}
	}
	rows := [][2]string{{"  time", fmt.Sprintf("%s (cluster time %d.%d)", dec.Time().UTC().Format("2006-01-02 15:04:05 MST"), dec.ClusterTime.T, dec.ClusterTime.I)}}
	if dec.HighWaterMark {
		return append(rows, [2]string{"  event", "none: a high-water mark, all events before this time were read"})
	}
	if !dec.UUID.IsZero() {
		rows = append(rows, [2]string{"  collection", dec.UUID.String() + d.nameOf(ctx, dec.UUID)})
	}
	if dec.OperationType != "" {
		rows = append(rows, [2]string{"  operation", dec.OperationType})
	}
	if len(dec.DocumentKey) > 0 {
		rows = append(rows, [2]string{"  document", dec.DocumentKey.String()})
	}
	return append(rows, [2]string{"  format", dec.Format.String()})
}

// nameOf is the collection's name, if the server has it.
func (d *demo) nameOf(ctx context.Context, uuid resumetoken.UUID) string {
	client, err := mongoclient.Connect(options.Client().ApplyURI(d.uri))
	if err != nil {
		return ""
	}
	defer client.Disconnect(ctx)
	specs, err := client.Database(d.database).ListCollectionSpecifications(ctx, bson.D{})
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return ""
	}
	for _, s := range specs {
		if s.UUID != nil && string(s.UUID.Data) == string(uuid[:]) {
			return " (" + d.database + "." + s.Name + ")"
		}
	}
	return ""
}
