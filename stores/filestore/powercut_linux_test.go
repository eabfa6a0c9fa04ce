package filestore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// The file systems that lose their power. An ext4 without a journal is not among them:
// it makes no promise that a program could build on. Nor is one with inline_data or with
// fast_commit: Linux 6.18 can't mount them again, after one shutdown in a few of the one and
// in some hundred of the other ("Invalid checksum recovering data block", "Structure needs
// cleaning"), and then no file is there to be looked at. With data=journal it is the same
// if the disk fails to write to the journal and goes on: "journal recovery failed".
// With journal_async_commit, on a disk with a cache, the last acknowledged saves were gone
// after one cut (seed 3469604757855784202, which did not show it again). Whether the file
// system or the store is to blame is open: it is looked for in the full campaign.
var (
	ext4Kinds = []fsKind{
		{name: "ext4", mkfs: mkExt4()},
		{name: "ext4 with data=writeback", mkfs: mkExt4(), mount: "data=writeback"},
		{name: "ext4 with data=journal", mkfs: mkExt4(), mount: "data=journal", failless: true},
		{name: "ext4 with nodelalloc", mkfs: mkExt4(), mount: "nodelalloc"},
		{name: "ext4 with noauto_da_alloc", mkfs: mkExt4(), mount: "noauto_da_alloc"},
		{name: "ext4 with journal_async_commit", mkfs: mkExt4(), mount: "journal_async_commit,data=writeback", fullOnly: true},
		{name: "ext4 with bigalloc", mkfs: mkExt4("-O", "bigalloc")},
		{name: "ext4 with blocks of 1 KiB", mkfs: mkExt4("-b", "1024"), mount: "noauto_da_alloc"},
	}
	xfsKinds = []fsKind{
		{name: "xfs", mkfs: mkXFS()},
		{name: "xfs without reflink", mkfs: mkXFS("-m", "reflink=0,rmapbt=0")},
		{name: "xfs with rmapbt", mkfs: mkXFS("-m", "rmapbt=1")},
		{name: "xfs with an inode for each kind of tree", mkfs: mkXFS("-m", "finobt=1,inobtcount=1", "-n", "size=8192")},
		{name: "xfs with wsync", mkfs: mkXFS(), mount: "wsync"},
		{name: "xfs with large log buffers", mkfs: mkXFS(), mount: "logbsize=256k"},
		{name: "xfs with sectors of 4 KiB", mkfs: mkXFS("-s", "size=4096")},
		{name: "xfs with blocks of 1 KiB", mkfs: mkXFS("-b", "size=1024")},
	}
)

func mkExt4(more ...string) []string {
	return append([]string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard"}, more...)
}

func mkXFS(more ...string) []string {
	return append([]string{"mkfs.xfs", "-q", "-f", "-K"}, more...)
}

// The power is cut at a random moment while a process saves and acknowledges: afterwards
// nothing acknowledged is lost, nothing is torn, no epoch comes back, and the store goes on
// saving.
func TestPowerCut(t *testing.T) { testPowerCuts(t, false) }

// The same, on a disk that has a cache of its own, and loses some of it.
func TestDiskPowerCut(t *testing.T) { testPowerCuts(t, true) }

func testPowerCuts(t *testing.T, onDisk bool) {
	seed := campaign.Seed(t)
	for _, kinds := range [][]fsKind{slices.Clone(ext4Kinds), slices.Clone(xfsKinds)} {
		all := campaignLength(t, cutsVar, 1000, 1000, 2500*time.Millisecond)
		if !all.until.IsZero() {
			// The short form: the usual one, and two of the others.
			r := rand.New(rand.NewPCG(seed, 0))
			kinds = slices.DeleteFunc(kinds, func(k fsKind) bool { return k.fullOnly })
			r.Shuffle(len(kinds)-1, func(i, j int) { kinds[i+1], kinds[j+1] = kinds[j+1], kinds[i+1] })
			kinds = kinds[:3]
		}
		for i, kind := range kinds {
			t.Run(kind.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(i+1)))
				part := all.part(i, len(kinds))
				if !all.until.IsZero() {
					part.until = time.Now().Add(time.Until(all.until) / time.Duration(len(kinds)-i))
				}
				newPowerCuts(t, kind, onDisk, r).run(part)
			})
		}
	}
}

// powerCuts are those of one file system, again and again.
type powerCuts struct {
	t      *testing.T
	image  *image
	r      *rand.Rand
	binary string // the child

	ledger *ledger
	dir    string
	lives  int // so far

	kills, acked int
}

func newPowerCuts(t *testing.T, kind fsKind, onDisk bool, r *rand.Rand) *powerCuts {
	t.Helper()
	p := &powerCuts{t: t, image: makeImage(t, kind), r: r, binary: os.Args[0]}
	if onDisk {
		p.image.onDisk(t, r)
	}
	p.image.mountFirst(t)
	return p
}

// run cuts the power again and again, and at the end looks whether the store still saves.
func (p *powerCuts) run(n length) {
	p.t.Helper()
	cuts := 0
	for ; n.more(cuts); cuts++ {
		must(p.t, p.live())
	}
	must(p.t, p.goOn())
	p.t.Logf("%d power cuts, %d kills, %d calls acknowledged", cuts, p.kills, p.acked)
	if p.acked < 10*cuts {
		p.t.Errorf("only %d calls were acknowledged", p.acked)
	}
}

func (p *powerCuts) begin() *lifetime {
	p.t.Helper()
	p.lives++
	return beginLife(p.t, p.binary, p.dir, p.ledger, life{Seed: p.r.Uint64(), First: p.lives * 100_000})
}

// newDir begins with an empty directory, now and then.
func (p *powerCuts) newDir() error {
	const every = 16
	if p.ledger != nil && p.r.IntN(every) > 0 {
		return nil
	}
	var err error
	if p.ledger != nil {
		p.acked += p.ledger.acked
		err = os.RemoveAll(filepath.Dir(p.dir))
	}
	p.ledger = newLedger()
	p.dir = filepath.Join(p.image.dir, fmt.Sprint(p.lives), "state")
	return err
}

// live is what happens between two power cuts: the process may be killed and started
// again before, so that what is in memory, and what is on the disk, are not the same for
// the next one.
func (p *powerCuts) live() error {
	if err := p.newDir(); err != nil {
		return err
	}
	for p.r.IntN(3) == 0 {
		if err := p.kill(); err != nil {
			return fmt.Errorf("life %d, killed: %w", p.lives, err)
		}
	}
	l := p.begin()
	if p.image.disk != nil && !p.image.kind.failless && p.r.IntN(3) == 0 {
		l.after(1 + p.r.IntN(100))
		l.mayFail.Store(true)
		p.image.disk.failWrites(1 + p.r.IntN(3))
	}
	l.after(1 + p.r.IntN(200))
	spin(time.Duration(p.r.IntN(1000)) * time.Microsecond)
	l.mayFail.Store(true)
	if err := p.image.cutPower(p.r); err != nil {
		return err
	}
	if p.r.IntN(4) == 0 {
		<-l.ended // nothing may be acknowledged any more
	} else {
		_ = l.process.cmd.Process.Kill() // it may have ended by itself
	}
	if err := l.end(); err != nil {
		return fmt.Errorf("life %d: %w", p.lives, err)
	}
	if err := p.image.reboot(); err != nil {
		return err
	}
	if err := p.check(true); err != nil {
		return fmt.Errorf("life %d, after the power cut: %w", p.lives, err)
	}
	return nil
}

func (p *powerCuts) kill() error {
	p.kills++
	l := p.begin()
	l.killSoon(p.r)
	return errors.Join(l.end(), p.check(false))
}

// goOn looks whether the store saves, after all power cuts.
func (p *powerCuts) goOn() error {
	l := p.begin()
	l.after(100)
	_ = l.process.cmd.Process.Kill()
	err := errors.Join(l.end(), p.check(false))
	p.acked += p.ledger.acked
	return err
}

func (p *powerCuts) check(powerCut bool) error {
	s, err := openQuietly(p.dir)
	if err != nil {
		return err
	}
	err = p.ledger.check(p.t, s, powerCut)
	left, globErr := filepath.Glob(filepath.Join(p.dir, "*"+tempSuffix))
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("%q are left", left))
	}
	return errors.Join(err, globErr, s.Close())
}
