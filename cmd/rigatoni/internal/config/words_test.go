package config_test

import (
	"testing"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"it may fit without FullDocument and FullDocumentBeforeChange, or if Options.Pipeline removes large fields": "it may fit without full-document and full-document-before-change, or if pipeline removes large fields",
		"does not respond (ConnectTimeout 5s)":               "does not respond (connect-timeout 5s)",
		"no progress for 5m0s (DeliverTimeout)":              "no progress for 5m0s (deliver-timeout)",
		"set Config.LeaseTTL to -1":                          "set lease-ttl to -1",
		"Config.AcceptChangedStream":                         "--accept-changed-stream",
		`the collection "MaxAwait" of shop.MaxAwait: Owner`:  `the collection "MaxAwait" of shop.MaxAwait: Owner`,
		"Location40573 and BSONObjectTooLarge, DuplicateKey": "Location40573 and BSONObjectTooLarge, DuplicateKey",
		"": "",
	} {
		if got := config.Words(text); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}
