package changestream

import (
	"github.com/rigatoni-etl/rigatoni"
)

// The positions of events during a copy have its state. They are asked for rarely, and
// computed when they are.

// A statePosition is of change events: the state stays the same over all of them.
type statePosition struct{ state *copyState }

// PositionAfter implements [rigatoni.Positioner].
func (p statePosition) PositionAfter(ev rigatoni.Event) (rigatoni.Position, error) {
	pos, err := rigatoni.PositionAfter(ev)
	if err != nil {
		return pos, err
	}
	return withState(pos, p.state)
}

// A chunkPosition is of the documents of a chunk: after one of them the cursor of the
// range stands on it, and the stream where the chunk was read.
type chunkPosition struct {
	stream rigatoni.Position
	before *copyState // before the chunk
	ns     rigatoni.Namespace
	rng    *keyRange
}

// PositionAfter implements [rigatoni.Positioner].
func (p *chunkPosition) PositionAfter(ev rigatoni.Event) (rigatoni.Position, error) {
	key, err := newSortKey(ev.DocumentKey().Lookup("_id"))
	if err != nil {
		return p.stream, err
	}
	return withState(p.stream, p.before.advance(p.ns, p.rng, key, false, 0, 0))
}

// A fixedPosition is a position that is known.
type fixedPosition struct {
	stream rigatoni.Position
	state  *copyState
}

// PositionAfter implements [rigatoni.Positioner].
func (p fixedPosition) PositionAfter(rigatoni.Event) (rigatoni.Position, error) {
	return withState(p.stream, p.state)
}

// withState is a position of the stream with a state of the copy.
func withState(pos rigatoni.Position, s *copyState) (rigatoni.Position, error) {
	text, err := s.encoded()
	if err != nil {
		return rigatoni.Position{}, err
	}
	pos.Snapshot = text
	return pos, nil
}
