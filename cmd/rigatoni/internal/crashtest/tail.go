package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An arrival is one line of the output.
type arrival struct {
	token resumetoken.Token
	what  Change // Version is 0 for a delete, whose event doesn't tell it
	cents int64  // -1 for a delete
}

// parse reads a line of ndjson.
func parse(line []byte) (arrival, error) {
	var ev bson.Raw
	if err := bson.UnmarshalExtJSON(line, false, &ev); err != nil {
		return arrival{}, fmt.Errorf("it is not Extended JSON: %w", err)
	}
	id, _ := ev.Lookup("_id").DocumentOK()
	token, err := resumetoken.New(id)
	if err != nil {
		return arrival{}, err
	}
	a := arrival{token: token, cents: -1}
	a.what.Doc.Coll, _ = ev.Lookup("ns", "coll").StringValueOK()
	a.what.Doc.ID, _ = ev.Lookup("documentKey", "_id").AsInt64OK()
	content := bson.Raw(nil)
	switch op, _ := ev.Lookup("operationType").StringValueOK(); op {
	case "insert":
		a.what.Op = Insert
		content, _ = ev.Lookup("fullDocument").DocumentOK()
	case "update":
		a.what.Op = Update
		content, _ = ev.Lookup("updateDescription", "updatedFields").DocumentOK()
	case "delete":
		a.what.Op = Delete
		return a, nil
	default:
		return a, nil
	}
	v, _ := content.Lookup("v").AsInt64OK()
	a.what.Version = int(v)
	a.cents, _ = content.Lookup("cents").AsInt64OK()
	return a, nil
}

// A tail reads the files of a folder as they grow, whole lines only.
type tail struct {
	dir   string
	files map[string]int64 // what has been read of each
}

// poll reads what is new, in the order of the files' names, and hands each line
// to take.
func (t *tail) poll(take func(file string, line []byte)) error {
	names, err := t.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.read(name, take); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) names() ([]string, error) {
	var names []string
	err := filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".ndjson") {
			names = append(names, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there is no output yet
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

func (t *tail) read(name string, take func(string, []byte)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() < t.files[name] {
		return fmt.Errorf("%s has lost lines that were there: it is down from %d bytes to %d", name, t.files[name], info.Size())
	}
	text, err := io.ReadAll(io.NewSectionReader(f, t.files[name], 1<<62))
	if err != nil {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil
		}
		take(name, line)
		t.files[name] += int64(len(line)) + 1
		text = rest
	}
}

// torn names the files that end in the middle of a line, or are gone or shorter
// than what was read of them.
func (t *tail) torn() []string {
	var bad []string
	for name, n := range t.files {
		if info, err := os.Stat(name); err != nil || info.Size() != n {
			bad = append(bad, name)
		}
	}
	slices.Sort(bad)
	return bad
}
