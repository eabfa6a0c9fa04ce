// Command mirror keeps a folder with a file for each document of a database. After a power
// cut, files may be missing that the kernel had not written: to flush them is a Syncer's.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/url"
	"os"
	"path/filepath"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

type mirror struct{ dir string } // the destination

func (m mirror) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	dir := filepath.Join(m.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(o.Key))))
	if files, _ := os.ReadDir(dir); o.FirstStart && !o.AcceptAnyOutput && len(files) > 0 {
		return nil, &rigatoni.OutputError{Err: rigatoni.ErrOutputExists, Facts: fmt.Sprintf("%s has %d documents", dir, len(files))}
	}
	return sink{dir}, os.MkdirAll(dir, 0o750)
}

type sink struct{ dir string } // of a stream

func (s sink) Deliver(_ context.Context, b *rigatoni.Batch) error {
	for i, ev := range b.Events {
		if err := s.write(ev); err != nil {
			return rigatoni.Partial(i, err) // the first i events are delivered
		}
	}
	return nil
}

// write may be repeated: what an event leaves is the same the second time.
func (s sink) write(ev rigatoni.Event) error {
	path := filepath.Join(s.dir, url.PathEscape(ev.DocumentKey().String())+".json")
	switch doc := ev.FullDocument(); {
	case doc != nil:
		if err := os.WriteFile(path+".new", []byte(doc.String()), 0o640); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	case ev.OperationType() != "delete":
		return rigatoni.Permanent(fmt.Errorf("the %s event has no document", ev.OperationType()))
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func main() {
	source, err := changestream.Open(os.Getenv("MONGODB_URI"), &changestream.Options{Database: "shop", FullDocument: "updateLookup"})
	store, serr := filestore.Open("./state", nil)
	if err := errors.Join(err, serr); err != nil {
		log.Fatal(err)
	}
	log.Fatal(rigatoni.Run(context.Background(), rigatoni.Config{Name: "shop", Source: source, Store: store, Destination: mirror{"./mirror"}}))
}
