package statusserver

import (
	"image/png"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// A real browser shows the page, on a narrow screen too, finds nothing wrong with it, and
// loads nothing else. CI has none: it would take longer to install than everything else.
func TestPageInABrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium on PATH (Debian: apt-get install chromium)")
	}
	bad := live("users")
	bad.Outage = time.Now()
	s := newServer(live("orders"), bad)
	st := live("orders")
	for i := range 100 {
		st.Events += uint64(i)
		s.sampler.sample([]rigatoni.StreamStatus{st, bad}, time.Now().Add(time.Duration(i)*sampleEvery))
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for name, size := range map[string]string{"wide": "1200,900", "narrow": "400,900"} {
		shot := filepath.Join(t.TempDir(), name+".png")
		cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
			"--user-data-dir="+t.TempDir(), "--hide-scrollbars", "--window-size="+size, "--screenshot="+shot, server.URL+"/?refresh=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, line := range strings.Split(string(out), "\n") {
			if strings.Contains(line, "CONSOLE") && !strings.Contains(line, "favicon") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if n := colours(t, shot); n < 20 {
			t.Errorf("%s: the picture has only %d colours", name, n)
		}
	}
}

// colours is how many colours a picture has.
func colours(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[3]uint32]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 2 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 2 {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return len(seen)
}
