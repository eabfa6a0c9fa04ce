package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An arrival is one line of the output.
type arrival struct {
	token resumetoken.Token
	what  Change // Version is 0 for a delete, whose event doesn't have it
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
	case "insert", "read":
		a.what.Op = Insert
		if op == "read" {
			a.what.Op = Read
		}
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

// A tail reads the files of a directory as they grow, whole lines only, also those
// that are not finished: what the pipeline has delivered, before any of it is cut
// back to a checkpoint.
type tail struct {
	dir   string
	files map[string]int64 // what has been read of each, by its final name
}

// finalName is what a file is called once it is finished.
func finalName(base string) (name string, ok bool) {
	name, _, open := strings.Cut(base, ".ndjson.partial")
	if open {
		return name + ".ndjson", true
	}
	return base, strings.HasSuffix(base, ".ndjson")
}

// poll reads what is new, in the order of the files' names, and hands each line
// to take. It ends early where a file was renamed since the folder was listed: what
// comes after that file waits for the next time.
func (t *tail) poll(take func(file string, line []byte)) error {
	names, err := namesIn(t.dir)
	if err != nil {
		return err
	}
	for _, base := range names {
		switch err := t.read(base, take); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// namesIn are the output's files, finished or not, in order.
func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // there is no output yet
	}
	var names []string
	for _, e := range entries {
		if _, ok := finalName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (t *tail) read(base string, take func(string, []byte)) error {
	f, err := os.Open(filepath.Join(t.dir, base))
	if err != nil {
		return err
	}
	defer f.Close()
	name, _ := finalName(base)
	text, err := io.ReadAll(io.NewSectionReader(f, t.files[name], 1<<62)) // nothing, if it was cut back
	if err != nil {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil
		}
		take(base, line)
		t.files[name] += int64(len(line)) + 1
		text = rest
	}
}
