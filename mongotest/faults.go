package mongotest

import (
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// What can be done to a server from Go, and can't be told a real one. (The fail
// point failCommand works as on a real server: send configureFailPoint.)

func faultCommands() map[string]*command {
	return map[string]*command{
		"configureFailPoint": {run: configureFailPoint, fields: []string{"mode", "data"}},
		"replSetStepDown":    {run: stepDown, write: true, fields: []string{"force", "secondaryCatchUpPeriodSecs"}},
	}
}

// DropConnections closes all connections, in the middle of whatever they are
// doing, and returns how many there were. What a write did before that is done.
func (s *Server) DropConnections() int {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	for c := range s.conns {
		c.close()
	}
	return len(s.conns)
}

// Freeze makes the server stop answering, as a process does that is stopped:
// connections stay open, new ones are taken, and nothing comes back. What was
// executed before is answered after [Server.Thaw].
func (s *Server) Freeze() { s.ice.set(true) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.ice.set(false) }

// ice is there while the server is frozen.
type ice struct {
	mu   sync.Mutex
	melt chan struct{} // closed by Thaw; nil when there is no ice
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

// StepDown makes the server a secondary for so long, and then the primary
// again. With a duration of 0 or less it stays one until [Server.StepUp].
//
// As on a real server, connections and open cursors live on, and getMores go on
// waiting; writes fail with 10107, and new streams with 13435.
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

// StepUp makes the server the primary, if it isn't.
func (s *Server) StepUp() {
	if !s.topology.primary() {
		s.store.noop("new primary")
		s.topology.set(false)
	}
}

// still tells whether no later step-down has happened.
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

// KillCursors kills all open cursors, and returns how many there were. A
// getMore that waits fails with 237, the next one with 43.
func (s *Server) KillCursors() int {
	return len(s.cursors.kill(func(*cursor) bool { return true }))
}

// ForgetOplog makes the oplog lose all but its newest entries, as many as keep
// says (1 at least). Open streams that have not read so far fail with 136, and
// resuming from before them with 286.
func (s *Server) ForgetOplog(keep int) {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	st.oplog.forget(max(len(st.oplog.entries)-max(keep, 1), 0))
}

// OversizeNextEvent makes the event of the next write count as larger than a
// document may be, as that of a large update with updateLookup does on a real
// server: every stream that comes to it fails with 10334, again and again.
// Streams with $changeStreamSplitLargeEvent get it in two fragments, the largest
// field in the second.
func (s *Server) OversizeNextEvent() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.oversizeNext = true
}
