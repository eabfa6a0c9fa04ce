package statusserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// copying30 is a stream whose copy of 30 collections is under way.
func copying30() rigatoni.StreamStatus {
	st := live("orders")
	st.Snapshot = &rigatoni.SnapshotStatus{
		CollectionsTotal: 30, CollectionsDone: 1, Documents: 410_000, DocumentsEstimated: 1_000_000, Bytes: 120_000_000, BytesEstimated: 300_000_000,
		Rate: 20_000, ETA: 30 * time.Second, Began: now,
	}
	for i := range 30 {
		st.Snapshot.Collections = append(st.Snapshot.Collections, rigatoni.CollectionSnapshot{
			Namespace: rigatoni.Namespace{DB: "shop", Coll: fmt.Sprintf("c%02d", i) + hostile}, Documents: 100, DocumentsEstimated: 1000, Bytes: 5000,
		})
	}
	return st
}

// A pipeline that copies does its work: it is ready, and says how far it is.
func TestSnapshotIsReady(t *testing.T) {
	s := newServer(copying30())
	if code, body := get(t, s, "/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, body)
	}
	_, body := get(t, s, "/status")
	var doc Document
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	v := doc.Streams[0].Snapshot
	if v == nil || v.Documents != 410_000 || *v.ETA != 30 || len(v.Collections) != 30 || !strings.HasPrefix(v.Collections[7].Collection, "shop.c07") {
		t.Errorf("%s", body)
	}
	if _, body := get(t, newServer(live("orders")), "/status"); !strings.Contains(body, `"snapshot": null`) {
		t.Errorf("without a copy:\n%s", body)
	}
}

func TestSnapshotOnThePage(t *testing.T) {
	_, body := get(t, newServer(copying30()), "/")
	wellFormed(t, body)
	for _, want := range []string{
		"1 of 30 collections done, 410,000 of about 1,000,000 documents, 120 MB of about 300 MB, 20,000 documents/s, 30 s left",
		`<progress value="410000" max="1000000"></progress>`, "<li>shop.c19", "10%: 100 of about 1,000 documents, 5.0 kB", "and 10 more",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, "<li>shop.c20") || strings.Contains(body, "<script") {
		t.Errorf("too many collections, or one that is not escaped:\n%s", body)
	}
	if _, body := get(t, newServer(live("orders")), "/"); strings.Contains(body, "Snapshot") {
		t.Error("a page without a copy speaks of one")
	}
}

// A gap that a copy has healed says so, and what remains.
func TestHealedGap(t *testing.T) {
	st := live("orders")
	st.Gaps, st.LastGap = 1, rigatoni.Gap{To: bson.Timestamp{T: 9}, Reason: "lost", Policy: "snapshot", At: now, Healed: now, Remains: "deletes, says s3cr3t"}
	_, body := get(t, newServer(st), "/")
	if want := "healed by a snapshot that ended 2026-11-23 00:46:00 UTC; what remains: deletes, says xxxxx"; !strings.Contains(body, want) {
		t.Errorf("the page has no %q:\n%s", want, body)
	}
}
