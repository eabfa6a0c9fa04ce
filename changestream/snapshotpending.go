package changestream

import (
	"maps"

	"github.com/rigatoni-etl/rigatoni"
)

// pendingNames are the collections whose copy has not begun, in the order in which it
// will. There may be thousands, and each event asks about its own: the list and its
// index are shared by all states, and what is taken from its front costs nothing. It is
// immutable.
type pendingNames struct {
	names []rigatoni.Namespace
	index map[rigatoni.Namespace]int
	next  int          // those before it are gone
	gone  map[int]bool // of those after it
}

func newPendingNames(names []rigatoni.Namespace) pendingNames {
	p := pendingNames{names: names, index: make(map[rigatoni.Namespace]int, len(names))}
	for i, ns := range names {
		p.index[ns] = i
	}
	return p
}

func (p pendingNames) len() int { return len(p.names) - p.next - len(p.gone) }

func (p pendingNames) has(ns rigatoni.Namespace) bool {
	i, ok := p.index[ns]
	return ok && i >= p.next && !p.gone[i]
}

// all calls yield for each name.
func (p pendingNames) all(yield func(rigatoni.Namespace) bool) {
	for i := p.next; i < len(p.names); i++ {
		if !p.gone[i] && !yield(p.names[i]) {
			return
		}
	}
}

func (p pendingNames) without(ns rigatoni.Namespace) pendingNames {
	if !p.has(ns) {
		return p
	}
	p.gone = maps.Clone(p.gone)
	if p.gone == nil {
		p.gone = map[int]bool{}
	}
	p.gone[p.index[ns]] = true
	for p.gone[p.next] {
		delete(p.gone, p.next)
		p.next++
	}
	return p
}

func (p pendingNames) with(ns rigatoni.Namespace) pendingNames {
	if p.has(ns) {
		return p
	}
	var names []rigatoni.Namespace
	for n := range p.all {
		names = append(names, n)
	}
	return newPendingNames(append(names, ns))
}

func (p pendingNames) grouped() (out []copyPendingJSON) {
	for ns := range p.all {
		if len(out) == 0 || out[len(out)-1].DB != ns.DB {
			out = append(out, copyPendingJSON{DB: ns.DB})
		}
		last := &out[len(out)-1]
		last.Colls = append(last.Colls, ns.Coll)
	}
	return out
}
