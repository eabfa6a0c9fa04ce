package mongotest

import (
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// Faults that are injected from Go because a real server has no command for
// them. (The fail point failCommand works as on a real server: send
// configureFailPoint.)

func faultCommands() map[string]*command {
	return map[string]*command{
		"configureFailPoint": {run: configureFailPoint, fields: []string{"mode", "data"}},
		"replSetStepDown":    {run: stepDown, write: true, fields: []string{"force", "secondaryCatchUpPeriodSecs"}},
	}
}

// DropConnections closes all connections, whatever they are doing, and returns
// their number. Writes that were executed remain executed, although their
// clients get no reply.
func (s *Server) DropConnections() int {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	for c := range s.conns {
		c.close()
	}
	return len(s.conns)
}

// Freeze makes the server stop replying, like a process that is suspended:
// connections stay open, new ones are accepted, and nothing is sent. Replies to
// commands that were executed before are sent after [Server.Thaw].
func (s *Server) Freeze() { s.ice.set(true) }

// Thaw ends what [Server.Freeze] began.
func (s *Server) Thaw() { s.ice.set(false) }

// ice is the state of a frozen server.
type ice struct {
	mu   sync.Mutex
	melt chan struct{} // closed by Thaw; nil unless frozen
}

func (i *ice) set(frozen bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case frozen && i.melt == nil:
		i.melt = make(chan struct{})
	case !frozen && i.melt != nil:
		close(i.melt)
		i.melt = nil
	}
}

func (i *ice) wait() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.melt
}

// StepDown makes the server a secondary for the duration, and then the primary
// again. With a duration of 0 or less it stays a secondary until
// [Server.StepUp].
//
// As on a real server, connections and open cursors survive and getMores
// continue to wait; writes fail with 10107, and new streams with 13435.
func (s *Server) StepDown(d time.Duration) {
	n := s.topology.set(true)
	if d <= 0 {
		return
	}
	time.AfterFunc(d, func() {
		if s.topology.still(n) {
			s.StepUp()
		}
	})
}

// StepUp makes the server the primary. It does nothing if the server is the
// primary.
func (s *Server) StepUp() {
	if !s.topology.primary() {
		s.store.noop("new primary")
		s.topology.set(false)
	}
}

// still reports whether no later step-down has happened.
func (t *topology) still(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stepDowns == n
}

func stepDown(r *request) (*bsondoc.Builder, error) {
	seconds, ok := bsondoc.Int(r.args[r.name])
	if !ok || seconds <= 0 {
		return nil, cmderr.Errorf(cmderr.BadValue, "stepdown period must be a positive integer")
	}
	r.server.StepDown(time.Duration(seconds) * time.Second)
	return bsondoc.New(), nil
}

// KillCursors kills all open cursors, and returns their number. A waiting
// getMore fails with 237, a later one with 43.
func (s *Server) KillCursors() int {
	return len(s.cursors.kill(func(*cursor) bool { return true }))
}

// ForgetOplog removes all oplog entries but the newest, as many as keep says
// (at least 1). Open streams that have not read the removed ones fail with 136,
// and resuming from before them fails with 286.
func (s *Server) ForgetOplog(keep int) {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	st.oplog.forget(max(len(st.oplog.entries)-max(keep, 1), 0))
}

// OversizeNextEvent makes the event of the next write count as larger than 16
// MB, like that of a large update with updateLookup on a real server: each
// stream that reaches it fails with 10334, also after resuming. Streams with
// $changeStreamSplitLargeEvent get it in two fragments, the second with the
// largest field.
func (s *Server) OversizeNextEvent() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.oversizeNext = true
}
