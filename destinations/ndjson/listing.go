package ndjson

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A listing is what a directory has of one key.
type listing struct {
	finished map[fileName]int64 // with their sizes
	open     []openFile         // in order
	markers  []uint64           // the generations of the markers, in order
	claims   []uint64           // the generations that are claimed
}

// An openFile does not have its final name.
type openFile struct {
	name fileName
	base string // what it is called now
	size int64
}

// claim returns the generation of the owner that has claimed the file, 0 if none has.
func (f openFile) claim() uint64 {
	rest := strings.TrimPrefix(f.base, f.name.open())
	generation, _ := strconv.ParseUint(strings.TrimPrefix(rest, "."), 10, 64)
	return generation
}

func (l *listing) find(n fileName) (openFile, bool) {
	i := slices.IndexFunc(l.open, func(f openFile) bool { return f.name == n })
	if i < 0 {
		return openFile{}, false
	}
	return l.open[i], true
}

// last returns the last file by name that has something in it.
func (l *listing) last() (last fileName, count int) {
	add := func(n fileName, size int64) {
		if size == 0 {
			return
		}
		count++
		if n.compare(last) >= 0 {
			last = n
		}
	}
	for n, size := range l.finished {
		add(n, size)
	}
	for _, f := range l.open {
		add(f.name, f.size)
	}
	return last, count
}

// first returns what the first file by name is called that has something in it.
func (l *listing) first() (base string, ok bool) {
	var first fileName
	add := func(n fileName, called string, size int64) {
		if size > 0 && (!ok || n.compare(first) < 0) {
			first, base, ok = n, called, true
		}
	}
	for n, size := range l.finished {
		add(n, n.String(), size)
	}
	for _, f := range l.open {
		add(f.name, f.base, f.size)
	}
	return base, ok
}

// list returns the files of a stem.
func list(dir, stem string) (*listing, error) {
	entries, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	l := &listing{finished: map[fileName]int64{}}
	for _, base := range entries {
		if l.addHidden(base, stem) {
			continue
		}
		n, finished, ok := parseName(base)
		if !ok || n.stem != stem {
			continue
		}
		info, err := os.Lstat(filepath.Join(dir, base))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a consumer has just moved it away
		}
		if err != nil {
			return nil, err
		}
		switch {
		case finished && info.Mode().IsRegular():
			l.finished[n] = info.Size()
		case finished:
			l.finished[n] = 0 // the consumer's: a link to where it has moved the file, say
		case info.Mode().IsRegular():
			l.open = append(l.open, openFile{n, base, info.Size()})
		default:
			return nil, notRegular(filepath.Join(dir, base), info)
		}
	}
	slices.Sort(l.markers)
	slices.SortFunc(l.open, func(a, b openFile) int { return a.name.compare(b.name) })
	return l, nil
}

// addHidden adds a hidden file, if base is one of the stem.
func (l *listing) addHidden(base, stem string) bool {
	n, ok := parseMarker(base, stem)
	if ok {
		l.markers = append(l.markers, n)
		return true
	}
	if n, ok = parseHidden(base, stem, claimSuffix, claimName); ok {
		l.claims = append(l.claims, n)
	}
	return ok
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
