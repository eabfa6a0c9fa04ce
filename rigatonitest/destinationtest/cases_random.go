package destinationtest

import "fmt"

var randomCases = []testCase{
	{"Random/Owners", "Sessions of one stream follow one another", func(t *trial) {
		rounds := 40
		if t.h.Short {
			rounds = 8
		}
		for range rounds {
			t.randomRound()
			if t.hasFailed() {
				return
			}
		}
	}},
}

// randomRound has processes own a stream one after the other. Each is killed, stopped, goes
// back to its checkpoint, or, where the destination can bear it, freezes and thaws.
func (t *trial) randomRound() {
	s := t.stream(20)
	var frozen []*owner
	canFreeze := t.h.ExactlyOnce || t.isTransactional()
	o := s.own()
	var history []string
	for step := 0; step < 60 && !t.hasFailed(); step++ {
		did := "delivers"
		switch n := t.rand.IntN(20); {
		case o.sink == nil:
			if err := o.open(); err != nil {
				t.fatalf("%v\nhistory: %v", err, history)
			}
			did = "opens"
		case n < 9 && o.delivered < len(s.events):
			if err := o.deliver(min(1+t.rand.IntN(4), len(s.events)-o.delivered)); err != nil {
				t.fatalf("%v\nhistory: %v", err, history)
			}
		case n < 13:
			if err := o.save(); err != nil {
				t.fatalf("%v\nhistory: %v", err, history)
			}
			did = "saves"
		case n < 14 && !s.keeps:
			_ = o.closeSink()
			did = "goes back"
		case n < 16:
			o.abandon()
			o, did = s.own(), "is killed"
		case n < 18 && canFreeze:
			frozen = append(frozen, o)
			o, did = s.own(), "freezes"
		case len(frozen) > 0:
			frozen[t.rand.IntN(len(frozen))].thaw(t.rand.IntN(3))
			did = "stays, and another one thaws"
		}
		history = append(history, fmt.Sprintf("%d %s", o.fence.Epoch, did))
		if len(history)%5 == 0 {
			s.check(fmt.Sprintf("history: %v", history), false)
		}
	}
	for _, f := range frozen {
		_ = f.closeSink()
	}
	o.abandon()
	s.finish(fmt.Sprintf("history: %v", history))
}

// thaw has an old owner do something that it had begun.
func (o *owner) thaw(what int) {
	switch {
	case o.sink == nil:
	case what == 0:
		_ = o.closeSink()
	case what == 1 && o.delivered < len(o.s.events):
		_ = o.deliver(1)
	default:
		_ = o.save()
	}
}
