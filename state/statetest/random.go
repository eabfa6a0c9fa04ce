package statetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

var randomCases = []testCase{
	{"Random/Saves", "Stores that can lock a record call it between reading and writing it; others, such as Redis with a script, implement the same rules in their own language, and statetest compares the two.", randomSaves},
	{"Random/Leases", "Stores that can lock a record call it between reading and writing it; others, such as Redis with a script, implement the same rules in their own language, and statetest compares the two.", randomLeases},
}

func randomSaves(t *trial) {
	for i := range t.size(20, 8) {
		newModel(t, fmt.Sprint("s", i), "save", "save", "save", "load", "clear", "batch", "forget", "expire", "reopen").play(40)
	}
}

func randomLeases(t *trial) {
	t.leaser(t.store())
	for i := range t.size(40, 15) {
		newModel(t, fmt.Sprint("l", i), "save", "save", "load", "clear", "batch", "forget", "expire", "reopen",
			"acquire", "acquire", "acquire", "fenced", "fenced", "fenced", "fenced", "clearFenced", "renew", "release", "expireLease").play(60)
	}
}

// A model is what the rule book says that a store must hold for one key, beside
// the store itself. Every operation is done to both.
type model struct {
	t       *trial
	key     string
	kinds   []string
	handles []*handle
	steals  bool
	now     time.Time // of the model; leases in it expire only by "expireLease"

	rec    record.Record
	fences []lease // all that were ever granted
	// loose says that an unfenced write has raised the epoch, by how much the
	// store alone knows.
	loose bool
	log   []string
	n     int
}

// A lease is a fence and the handle that holds it. A store whose leases end with
// their process serves its owner through no other.
type lease struct {
	fence state.Fence
	h     *handle
}

func newModel(t *trial, name string, kinds ...string) *model {
	m := &model{t: t, key: t.key(name), handles: []*handle{t.open(), t.open()}, now: time.Now()}
	for _, kind := range kinds {
		if m.can(kind) {
			m.kinds = append(m.kinds, kind)
		}
	}
	if _, ok := state.As[state.Leaser](m.handles[0]); ok && strings.Contains(strings.Join(kinds, " "), "acquire") {
		m.steals = t.canSteal()
	}
	return m
}

func (m *model) can(kind string) bool {
	ok := true
	switch kind {
	case "batch":
		_, ok = state.As[state.BatchSaver](m.handles[0])
	case "forget":
		_, ok = state.As[state.Forgetter](m.handles[0])
	case "expire":
		ok = m.t.h.Expire != nil
	case "expireLease":
		ok = m.t.h.ExpireLease != nil
	case "reopen":
		ok = !m.t.h.Volatile
	}
	return ok
}

func (m *model) play(steps int) {
	for range steps {
		m.step(m.kinds[m.t.rand.IntN(len(m.kinds))])
	}
	m.step("load")
	if !m.t.h.Volatile {
		for _, h := range m.handles {
			if !h.closed && !m.holds(h) {
				m.t.close(h)
			}
		}
	}
}

func (m *model) step(kind string) {
	h := m.handles[m.t.rand.IntN(len(m.handles))]
	switch kind {
	case "save", "batch":
		m.save(kind, h, state.Fence{}, m.checkpoint())
	case "fenced":
		l := m.pick()
		m.save("save", l.h, l.fence, m.checkpoint())
	case "load":
		m.load(h)
	case "clear":
		m.clear(h, state.Fence{})
	case "clearFenced":
		l := m.pick()
		m.clear(l.h, l.fence)
	case "acquire":
		m.acquire(h)
	case "renew":
		l := m.pick()
		rec, err := record.AdmitRenew(m.rec, l.fence, longLease, m.now)
		m.apply(rec, err, m.t.leaser(l.h).Renew(m.t.ctx, m.key, l.fence, longLease), "Renew(%s)", m.name(l.fence))
	case "release":
		l := m.pick()
		m.apply(record.AdmitRelease(m.rec, l.fence), nil, m.t.leaser(l.h).Release(m.t.ctx, m.key, l.fence), "Release(%s)", m.name(l.fence))
	case "forget":
		m.forget(h)
	case "expire":
		m.expire()
	case "expireLease":
		m.expireLease()
	case "reopen":
		m.reopen()
	}
}

// checkpoint makes one whose sequence and token are near what was there before.
func (m *model) checkpoint() state.Checkpoint {
	r := m.t.rand
	m.n++
	cp := sample(m.n)
	cp.Token = token(r.IntN(3))
	cp.Epoch = r.Uint64N(3)
	switch last := m.rec.LastSequence; r.IntN(6) {
	case 0: // unordered
	case 1:
		cp.Sequence = last - min(last, 1+r.Uint64N(3))
	case 2, 3:
		cp.Sequence = last
		if r.IntN(2) == 0 && m.rec.Status == record.Saved && !m.rec.Checkpoint.Token.IsZero() {
			cp.Token = m.rec.Checkpoint.Token
		}
	default:
		cp.Sequence = last + 1 + r.Uint64N(3)
	}
	return cp
}

// pick gives a fence: most often the current one, else an old or a forged one.
func (m *model) pick() lease {
	r := m.t.rand
	if len(m.fences) == 0 {
		return lease{state.Fence{Epoch: 1 + r.Uint64N(2), Nonce: "nobody's"}, m.handles[r.IntN(len(m.handles))]}
	}
	newest := m.fences[len(m.fences)-1]
	switch r.IntN(8) {
	case 0:
		newest.fence.Nonce = rotate(newest.fence.Nonce)
	case 1:
		newest.fence.Epoch += 1 + 2*r.Uint64N(2) - 2 // one less or one more
	case 2, 3:
		newest = m.fences[r.IntN(len(m.fences))]
	}
	if newest.h.closed {
		newest.h = m.handles[r.IntN(len(m.handles))]
	}
	return newest
}

// name makes a fence readable in a log.
func (m *model) name(f state.Fence) string {
	return fmt.Sprintf("epoch %d, nonce %.4s", f.Epoch, f.Nonce)
}

// notef writes a line of the log.
func (m *model) notef(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// differf says that the store and the rule book are not of one mind, and how they
// got there.
func (m *model) differf(format string, args ...any) {
	m.t.fatalf("%s\nthe operations on the key, of which the last is in dispute:\n  %s", fmt.Sprintf(format, args...), strings.Join(m.log, "\n  "))
}

// apply compares the answers of rule book and store, and keeps the new record if
// both say yes.
func (m *model) apply(rec record.Record, book, store error, format string, args ...any) {
	m.notef("%s: %v", fmt.Sprintf(format, args...), store)
	m.compare(book, store)
	if book == nil {
		if rec.Epoch > m.rec.Epoch && m.rec.Nonce != "" && rec.Nonce == "" {
			m.loose = true
		}
		m.rec = rec
	}
}

func (m *model) compare(book, store error) {
	if class(book) != class(store) {
		m.differf("the store answers %v, and the rule book %v", store, book)
	}
	want, ok := errors.AsType[*state.HeldError](book)
	if !ok {
		return
	}
	if got, ok := errors.AsType[*state.HeldError](store); !ok || got.Owner != want.Owner {
		m.differf("the store names the owner in %q, and the rule book in %q", store, book)
	}
}

func (m *model) save(kind string, h *handle, f state.Fence, cp state.Checkpoint) {
	rec, book := record.Admit(m.rec, f, cp.Clone(), m.now)
	var err error
	switch {
	case kind == "batch":
		errs := m.t.batch(h, []state.Item{{Key: m.key, Fence: f, Checkpoint: cp}})
		err = errs[0]
	case f.IsZero():
		err = h.Save(m.t.ctx, m.key, cp)
	default:
		err = m.t.leaser(h).SaveFenced(m.t.ctx, m.key, f, cp)
	}
	m.apply(rec, book, err, "%s(%s, sequence %d, token %s)", kind, m.name(f), cp.Sequence, tokenName(cp))
}

func tokenName(cp state.Checkpoint) string {
	sum := sha256.Sum256(cp.Token.Raw())
	return fmt.Sprintf("%x", sum[:2])
}

func (m *model) clear(h *handle, f state.Fence) {
	rec, book := record.AdmitClear(m.rec, f, m.now)
	var err error
	if f.IsZero() {
		err = h.Clear(m.t.ctx, m.key)
	} else {
		err = m.t.leaser(h).ClearFenced(m.t.ctx, m.key, f)
	}
	m.apply(rec, book, err, "Clear(%s)", m.name(f))
}

// settle takes over an epoch that the store alone could choose.
func (m *model) settle(epoch uint64) {
	if m.loose && epoch > m.rec.Epoch {
		m.rec.Epoch, m.rec.Checkpoint.Epoch, m.loose = epoch, epoch, false
	}
}

// agree compares a checkpoint and an error, as Load and a grant have them.
func (m *model) agree(cp state.Checkpoint, err error) {
	want, book := m.rec.Load()
	m.compare(book, err)
	if book != nil {
		return
	}
	m.settle(cp.Epoch)
	want.Epoch = m.rec.Checkpoint.Epoch
	if d := differ(cp, want); d != "" {
		m.differf("the store's checkpoint is not the rule book's: %s", d)
	}
}

func (m *model) load(h *handle) {
	cp, err := h.Load(m.t.ctx, m.key)
	m.notef("Load: sequence %d, token %s, %v", cp.Sequence, tokenName(cp), err)
	m.agree(cp, err)
}

func (m *model) acquire(h *handle) {
	r := m.t.rand
	ask := request("")
	ask.Nonce = fmt.Sprintf("%016X%s", r.Uint64(), m.key)
	if n := len(m.fences); n != 0 && r.IntN(3) == 0 { // again
		ask.Nonce = m.fences[n-1-r.IntN(min(n, 3))].fence.Nonce
		if i := m.current(); i >= 0 && ask.Nonce == m.rec.Nonce && !m.fences[i].h.closed {
			h = m.fences[i].h
		}
	}
	ask.Owner = "owner " + ask.Nonce[:4]
	ask.Steal = r.IntN(4) == 0
	asked := ask
	asked.Steal = ask.Steal && m.steals
	rec, want, book := record.AdmitAcquire(m.rec, asked, m.now)
	grant, err := m.t.ask(h, m.key, ask)
	same := m.rec.Nonce == ask.Nonce
	m.notef("Acquire(nonce %.4s, steal %t): epoch %d, last sequence %d, %v", ask.Nonce, ask.Steal, grant.Fence.Epoch, grant.LastSequence, err)
	m.compare(book, err)
	if book != nil {
		return
	}
	switch got := grant.Fence; {
	case got.Nonce != ask.Nonce:
		m.differf("the grant has another nonce than the request")
	case same && got.Epoch != rec.Epoch:
		m.differf("the same nonce again has the epoch %d, and had %d", got.Epoch, rec.Epoch)
	case !same && got.Epoch < rec.Epoch:
		m.differf("the grant has the epoch %d, want %d or more", got.Epoch, rec.Epoch)
	}
	if grant.LastSequence != want.LastSequence {
		m.differf("the grant has the last sequence %d, and the rule book %d", grant.LastSequence, want.LastSequence)
	}
	m.rec = rec
	m.agree(grant.Checkpoint, grant.LoadErr)
	m.rec.Epoch, m.loose = grant.Fence.Epoch, false
	// The same fence may be there already: the same nonce again, or after Forget.
	m.fences = append(slices.DeleteFunc(m.fences, func(l lease) bool { return l.fence == grant.Fence }), lease{grant.Fence, h})
}

func (m *model) forget(h *handle) {
	var book error
	if m.rec.Live(m.now) {
		book = &state.HeldError{Owner: m.rec.Owner, Until: m.rec.LeaseUntil}
	}
	m.apply(record.Record{}, book, m.t.forget(h, m.key), "Forget")
	if book == nil {
		m.loose = false
	}
}

func (m *model) expire() {
	if m.rec.Status != record.Saved || m.rec.Checkpoint.Token.IsZero() {
		return
	}
	m.t.expire(m.key)
	m.notef("the checkpoint expires")
	m.rec.Checkpoint = state.Checkpoint{}
}

func (m *model) expireLease() {
	if !m.rec.Live(m.now) {
		return
	}
	if err := m.t.h.ExpireLease(m.t.ctx, m.key); err != nil {
		m.t.fatalf("Harness.ExpireLease: %v", err)
	}
	m.notef("the lease runs out")
	m.rec.LeaseUntil = m.now.Add(-time.Second)
}

// current finds the fence that is the current one; -1 if there is none.
func (m *model) current() int {
	return slices.IndexFunc(m.fences, func(l lease) bool { return l.fence == m.rec.Fence() })
}

// holds reports whether a lease would end with h, in a store whose leases end with
// their process.
func (m *model) holds(h *handle) bool {
	i := m.current()
	return i >= 0 && m.fences[i].h == h && m.rec.Live(m.now)
}

func (m *model) reopen() {
	i := m.t.rand.IntN(len(m.handles))
	if m.holds(m.handles[i]) {
		return
	}
	m.notef("a handle is closed and reopened")
	m.t.close(m.handles[i])
	m.handles[i] = m.t.open()
}
