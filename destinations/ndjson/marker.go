package ndjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A marker is a small hidden file beside the output that says how far files have
// been finished. It is written before a file gets its final name. With it a
// checkpoint that is older than that is recognised, wherever consumers have moved
// the finished files, and so is a file that is gone without having been finished.
//
// Each generation has a marker of its own, and the one that is furthest counts: what an
// owner writes who was only presumed dead takes nothing back.
type marker struct {
	File        string         `json:"file,omitempty"` // the last one finished
	Size        int64          `json:"size"`
	Ordinal     uint64         `json:"files"`
	At          time.Time      `json:"at"`
	ClusterTime bson.Timestamp `json:"clusterTime"` // of an event at its end or before; zero if unknown
}

func (m marker) extent() extent {
	n, _ := parseFinished(m.File)
	return extent{n, m.Size, m.Ordinal}
}

const markerSuffix = ".finished.json"

func markerName(stem string, generation uint64) string {
	return fmt.Sprintf(".%s-%010d%s", stem, generation, markerSuffix)
}

// parseMarker returns the generation of a marker of the stem.
func parseMarker(base, stem string) (generation uint64, ok bool) {
	return parseHidden(base, stem, markerSuffix, markerName)
}

// maxMarker is more than a marker has.
const maxMarker = 64 << 10

// readMarkers returns the marker that is furthest, or nil if there is none: nothing
// was opened in the directory yet, or it was emptied.
func readMarkers(dir, stem string, generations []uint64) (furthest *marker, err error) {
	for _, n := range generations {
		path := filepath.Join(dir, markerName(stem, n))
		text, err := readRegular(path, maxMarker)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a newer owner has removed it
		}
		if err != nil {
			return nil, err
		}
		m := &marker{}
		if err := json.Unmarshal(text, m); err != nil {
			return nil, fmt.Errorf("%s says which files were finished, and can't be read (%w); restore it, or delete it to continue without that check", path, err)
		}
		if furthest == nil || m.extent().compare(furthest.extent()) >= 0 {
			furthest = m
		}
	}
	return furthest, nil
}

// writeMarker replaces the marker of an owner, durably.
func (d *Files) writeMarker(stem string, owned *ownership, m marker) error {
	m.At = time.Now().UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(d.dir, markerName(stem, owned.generation))
	if err := d.replace(path, bytes.NewReader(append(text, '\n'))); err != nil {
		return err
	}
	owned.marker = &m
	return nil
}

// removeMarkers removes the markers of the generations.
func (d *Files) removeMarkers(stem string, generations []uint64) error {
	for _, n := range generations {
		if err := d.fs.remove(filepath.Join(d.dir, markerName(stem, n))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
