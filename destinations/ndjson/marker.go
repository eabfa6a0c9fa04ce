package ndjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A marker is a small hidden file beside the output that says how far files have
// been finished. It is written before a file gets its final name. With it a
// checkpoint that is older than that is recognised, wherever consumers have moved
// the finished files, and so is a file that is gone without having been finished.
//
// Each epoch has a marker of its own, and the one that is furthest counts: what an
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

func markerName(stem string, epoch uint64) string {
	return fmt.Sprintf(".%s-%010d%s", stem, epoch, markerSuffix)
}

// parseMarker returns the epoch of a marker of the stem.
func parseMarker(base, stem string) (epoch uint64, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(base, markerSuffix), "."+stem+"-")
	if !ok {
		return 0, false
	}
	epoch, err := strconv.ParseUint(rest, 10, 64)
	return epoch, err == nil && markerName(stem, epoch) == base
}

// readMarkers returns the marker that is furthest, or nil if there is none: nothing
// was opened in the directory yet, or it was emptied.
func readMarkers(dir, stem string, epochs []uint64) (furthest *marker, err error) {
	for _, epoch := range epochs {
		path := filepath.Join(dir, markerName(stem, epoch))
		text, err := os.ReadFile(path)
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

// writeMarker replaces the marker of an epoch, durably.
func (d *Files) writeMarker(stem string, epoch uint64, m marker) error {
	m.At = time.Now().UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(d.dir, markerName(stem, epoch))
	temp := path + ".new"
	if err := d.fs.remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.fs.create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.rename(temp, path); err != nil {
		return err
	}
	return d.fs.syncDir(d.dir)
}

// removeMarkers removes the markers of the epochs.
func (d *Files) removeMarkers(stem string, epochs []uint64) error {
	for _, e := range epochs {
		if err := d.fs.remove(filepath.Join(d.dir, markerName(stem, e))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
