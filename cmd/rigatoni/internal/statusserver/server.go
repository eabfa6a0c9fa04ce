package statusserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

const (
	// maxStreams is the most streams in one answer, and pageStreams on the page.
	maxStreams  = 1000
	pageStreams = 50
	// hungAfter is how long the pipeline's status may not be had before the process
	// is taken for hung.
	hungAfter = 30 * time.Second
)

// Options say what a Server serves.
type Options struct {
	Version  string
	Pipeline string
	Limits   Limits
	Metrics  http.Handler        // of /metrics; nil for none
	Scrub    func(string) string // takes secrets out of errors; nil for none
	Logger   *slog.Logger
}

// A Server serves the status of a pipeline. Until Watch is called the pipeline is
// starting.
type Server struct {
	o       Options
	started time.Time
	scrub   func(string) string
	http    http.Server
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	status   func() []rigatoni.StreamStatus // nil before Watch
	sampler  sampler
	answered time.Time // when status last returned
}

// Serve begins to serve on l, which it closes in the end.
func Serve(l net.Listener, o Options) *Server {
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.http = http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.ended.Go(func() { s.sampleLoop(ctx) })
	s.ended.Go(func() {
		if err := s.http.Serve(l); err != http.ErrServerClosed {
			o.Logger.Error("the status server has ended", "err", err)
		}
	})
	return s
}

// New returns a server that serves nothing by itself: see Handler and Sample.
func New(o Options) *Server {
	s := &Server{o: o, started: time.Now(), scrub: o.Scrub, answered: time.Now()}
	if s.scrub == nil {
		s.scrub = func(text string) string { return text }
	}
	return s
}

// Close stops serving. Answers that are under way have a second.
func (s *Server) Close() {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // the process ends
	}
	s.ended.Wait()
}

// Watch has the server show a pipeline, by its Status.
func (s *Server) Watch(status func() []rigatoni.StreamStatus) {
	s.mu.Lock()
	s.status = status
	s.mu.Unlock()
	s.Sample(time.Now())
}

// streams returns the status now, fit to be shown; nil while the pipeline is not there
// yet.
func (s *Server) streams() []rigatoni.StreamStatus {
	all := s.read()
	for i := range all {
		for _, err := range []*error{&all[i].LastError, &all[i].OutageErr, &all[i].StoreErr} {
			if *err != nil {
				*err = errors.New(s.text((*err).Error()))
			}
		}
		all[i].LastGap.Reason, all[i].LastGap.Policy = s.text(all[i].LastGap.Reason), s.text(all[i].LastGap.Policy)
		all[i].LastGap.Remains = s.text(all[i].LastGap.Remains)
	}
	return all
}

func (s *Server) read() []rigatoni.StreamStatus {
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	if status == nil {
		return nil
	}
	return slices.Clone(status()) // not under the lock: /healthz answers though it hangs
}

// maxText is how much of an error or a reason is shown.
const maxText = 500

// text is a text in one line, without secrets, and not too long.
func (s *Server) text(text string) string {
	text = s.scrub(text[:min(len(text), 20*maxText)]) // what is half of a secret there is cut off below
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// Sample reads the status for the charts.
func (s *Server) Sample(now time.Time) {
	streams := s.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = time.Now()
	if streams != nil {
		s.sampler.sample(streams, now)
	}
}

func (s *Server) sampleLoop(ctx context.Context) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			s.Sample(now)
		}
	}
}

// Reasons returns why the pipeline is not ready; nil if it is.
func (s *Server) Reasons() []Reason { return s.reasons(s.streams(), time.Now()) }

func (s *Server) reasons(streams []rigatoni.StreamStatus, now time.Time) []Reason {
	if streams == nil {
		return []Reason{{Code: "starting", Text: "it has not begun", Streams: 1}}
	}
	return Reasons(streams, s.o.Limits, now)
}

// Handler serves everything.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.statusJSON)
	mux.HandleFunc("GET /{$}", s.page)
	if s.o.Metrics != nil {
		mux.Handle("GET /metrics", s.o.Metrics)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	})
}

// healthz reports whether the process works: whether the pipeline's status could be
// had lately. It says nothing of servers, which a restart doesn't mend.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	silent := time.Since(s.answered)
	s.mu.Unlock()
	if silent > hungAfter {
		plain(w, http.StatusServiceUnavailable, fmt.Sprintf("hung: the pipeline's status has not been available for %s\n", brief(silent)))
		return
	}
	plain(w, http.StatusOK, "ok\n")
}

// readyz reports whether the pipeline does its work, and if not, why, a line each.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := s.Reasons()
	if len(reasons) == 0 {
		plain(w, http.StatusOK, "ready\n")
		return
	}
	text := "not ready\n"
	for _, r := range reasons {
		text += r.String() + "\n"
	}
	plain(w, http.StatusServiceUnavailable, text)
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client may have left
}

// statusJSON answers with a Document: of the streams from offset on, up to limit, or
// of the one that stream names.
func (s *Server) statusJSON(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	offset, errOffset := number(q.Get("offset"), 0, 1<<30)
	limit, errLimit := number(q.Get("limit"), 100, maxStreams)
	if errOffset != nil || errLimit != nil {
		plain(w, http.StatusBadRequest, fmt.Sprintf("offset and limit are numbers from 0 on, limit up to %d\n", maxStreams))
		return
	}
	now, streams := time.Now(), s.streams()
	reasons := s.reasons(streams, now)
	doc := Document{
		Version: s.o.Version, Pipeline: s.o.Pipeline, Time: *timeOf(now), Started: *timeOf(s.started),
		Ready: len(reasons) == 0, Reasons: append([]Reason{}, reasons...), Total: len(streams), Offset: offset, Streams: []Stream{},
	}
	for i, st := range streams {
		if q.Has("stream") && st.Stream != q.Get("stream") || !q.Has("stream") && i < offset {
			continue
		}
		if len(doc.Streams) == limit {
			break
		}
		doc.Streams = append(doc.Streams, streamOf(st, s.rate(i), now))
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(doc) // the client may have left
}

// rate is the throughput of the i-th stream at the last sample.
func (s *Server) rate(i int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.sampler.streams) {
		return 0
	}
	return float64(int(s.sampler.streams[i].now*10)) / 10
}

func number(text string, otherwise, most int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, strconv.ErrRange
	}
	return n, nil
}
