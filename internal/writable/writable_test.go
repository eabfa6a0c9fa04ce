package writable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/writable"
)

func TestDir(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"": true, "a": false, "a/b/c": false} {
		if exists, err := writable.Dir(filepath.Join(base, path)); err != nil || exists != want {
			t.Errorf("%q: %v, %v", path, exists, err)
		}
	}
	for _, path := range []string{"file", "file/a"} {
		if _, err := writable.Dir(filepath.Join(base, path)); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left, err := os.ReadDir(base); err != nil || len(left) != 1 {
		t.Errorf("it left %v, %v", left, err)
	}
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("root may write everywhere: not tried without the right")
	}
	if err := os.Chmod(base, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "a"} {
		if _, err := writable.Dir(filepath.Join(base, path)); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%q: %v, want that it is refused", path, err)
		}
	}
}
