package snapshotview

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

var half = rigatoni.SnapshotStatus{
	CollectionsTotal: 5, CollectionsDone: 2, Documents: 410_000, DocumentsEstimated: 1_000_000, Bytes: 120_500_000, BytesEstimated: 1_234_567_890,
	Rate: 20_100.4, ETA: 29 * time.Second, Began: time.Unix(1_794_000_000, 0),
	Collections: []rigatoni.CollectionSnapshot{
		{Namespace: rigatoni.Namespace{DB: "shop", Coll: "orders"}, Documents: 10_000, DocumentsEstimated: 600_000, Bytes: 500_000, BytesEstimated: 834_567_890},
		{Namespace: rigatoni.Namespace{DB: "shop", Coll: "users"}, Done: true, Documents: 400_000, DocumentsEstimated: 400_000, Bytes: 120_000_000, BytesEstimated: 400_000_000},
	},
}

func TestTexts(t *testing.T) {
	low := rigatoni.SnapshotStatus{CollectionsTotal: 1, Documents: 12, DocumentsEstimated: 10, Bytes: 999, BytesEstimated: 900}
	unknown := rigatoni.SnapshotStatus{CollectionsTotal: 1, Documents: 1, Bytes: 1000}
	for _, c := range []struct{ got, want string }{
		{Text(half), "2 of 5 collections done, 410,000 of about 1,000,000 documents, 120 MB of about 1.2 GB, 20,100 documents/s, 29 s left"},
		{Brief(half), "snapshot 41%, 410,000 of about 1,000,000 documents, 29 s left"},
		{Plan(half), "5 collections, about 1,000,000 documents, about 1.2 GB"},
		{Line(half.Collections[0]), "1%: 10,000 of about 600,000 documents, 500 kB of about 835 MB"},
		{Line(half.Collections[1]), "done: 400,000 of about 400,000 documents, 120 MB of about 400 MB"},
		{Line(rigatoni.CollectionSnapshot{}), "waits"},
		{Text(low), "0 of 1 collection done, 12 of about 10 documents, 999 B of about 900 B"},
		{Brief(low), "snapshot 99%, 12 of about 10 documents"},
		{Text(unknown), "0 of 1 collection done, 1 document, 1.0 kB"},
		{Brief(unknown), "snapshot 1 document"},
		{Plan(unknown), "1 collection"},
		{Span(90 * time.Second), "90 s"}, {Span(3 * time.Hour), "3 h"}, {Span(100 * time.Hour), "4 days"}, {Size(9_900_000_000_000), "9.9 TB"},
	} {
		if c.got != c.want {
			t.Errorf("\n got %s\nwant %s", c.got, c.want)
		}
	}
}

// Programs rely on these names.
func TestView(t *testing.T) {
	for want, s := range map[string]*rigatoni.SnapshotStatus{
		"null": nil,
		`{"began":null,"collections_total":1,"collections_done":0,"documents":3,"documents_estimated":null,"bytes":0,"bytes_estimated":null,"documents_per_second":null,"eta_seconds":null,"collections":[]}`: {
			CollectionsTotal: 1, Documents: 3,
		},
		`{"began":"2026-11-06T21:20:00Z","collections_total":1,"collections_done":0,"documents":5,"documents_estimated":10,"bytes":50,"bytes_estimated":100,"documents_per_second":3,"eta_seconds":2,` +
			`"collections":[{"collection":"a.b","done":false,"documents":5,"documents_estimated":10,"bytes":50,"bytes_estimated":null}]}`: {
			Began: time.Unix(1_794_000_000, 0), CollectionsTotal: 1, Documents: 5, DocumentsEstimated: 10, Bytes: 50, BytesEstimated: 100, Rate: 2.6, ETA: 1600 * time.Millisecond,
			Collections: []rigatoni.CollectionSnapshot{{Namespace: rigatoni.Namespace{DB: "a", Coll: "b"}, Documents: 5, DocumentsEstimated: 10, Bytes: 50}},
		},
	} {
		if got, err := json.Marshal(Of(s)); err != nil || string(got) != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

func TestTogether(t *testing.T) {
	if s := Together([]rigatoni.StreamStatus{{}, {}}); s != nil {
		t.Errorf("of no copy: %+v", s)
	}
	later := half
	later.Began, later.ETA = half.Began.Add(time.Hour), time.Hour
	s := Together([]rigatoni.StreamStatus{{Snapshot: &later}, {}, {Snapshot: &half}})
	if s.Documents != 820_000 || s.CollectionsTotal != 10 || s.ETA != time.Hour || !s.Began.Equal(half.Began) {
		t.Errorf("of two copies: %+v", s)
	}
}
