package ndjson

import (
	"cmp"
	"encoding/json"
	"errors"
)

// An extent is the end of a stream's output, or of what is known of it: up to
// size bytes of one file, and all of the files before it.
type extent struct {
	name    fileName
	size    int64
	ordinal uint64 // of the file, counted over all generations; 0 before the first file
}

// compare orders the extents of one stream. Names can't: those that an older version
// wrote began at 1 again where the epoch did.
func (e extent) compare(f extent) int {
	return cmp.Or(cmp.Compare(e.ordinal, f.ordinal), cmp.Compare(e.size, f.size))
}

// A saved is what a checkpoint says of the output: what Sync returned before it
// was saved.
type saved struct {
	File    string `json:"file"`  // the last one, by its final name
	Size    int64  `json:"size"`  // how much of it is covered
	Ordinal uint64 `json:"files"` // its ordinal
	// Before are the files before it, of the same owner, that did not have their
	// final names yet. All of them is covered.
	Before []savedPart `json:"before,omitempty"`
}

type savedPart struct {
	Number     uint64 `json:"number"`
	Generation uint64 `json:"generation,omitempty"` // if it isn't that of File
	Size       int64  `json:"size"`
}

func savedOf(ended []endedFile, end extent) saved {
	doc := saved{File: end.name.String(), Size: end.size, Ordinal: end.ordinal}
	for _, e := range ended {
		if e.name == end.name {
			continue
		}
		p := savedPart{Number: e.name.number, Size: e.size}
		if e.name.generation != end.name.generation {
			p.Generation = e.name.generation
		}
		doc.Before = append(doc.Before, p)
	}
	return doc
}

var errForeign = errors.New("it is not of this destination, or of another key")

// extents returns the end of the output that doc covers, and the files that may
// not have their final names, in order; the end is the last one.
func (doc saved) extents(stem string) ([]extent, error) {
	n, ok := parseFinished(doc.File)
	if !ok || n.stem != stem || doc.Size < 0 || doc.Ordinal <= uint64(len(doc.Before)) {
		return nil, errForeign
	}
	first := doc.Ordinal - uint64(len(doc.Before))
	var all []extent
	for i, p := range doc.Before {
		all = append(all, extent{fileName{stem, cmp.Or(p.Generation, n.generation), p.Number}, p.Size, first + uint64(i)})
	}
	return append(all, extent{n, doc.Size, doc.Ordinal}), nil
}

// parseSaved reads what Sync returned. Nil for a checkpoint before any output.
func parseSaved(doc json.RawMessage, stem string) ([]extent, error) {
	if doc == nil {
		return nil, nil
	}
	var s saved
	if json.Unmarshal(doc, &s) != nil {
		return nil, errForeign
	}
	return s.extents(stem)
}

func endOf(all []extent) extent {
	if len(all) == 0 {
		return extent{}
	}
	return all[len(all)-1]
}
