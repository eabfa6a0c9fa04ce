package changestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

func TestJudge(t *testing.T) {
	server := func(code int32, msg string, labels ...string) error {
		return fmt.Errorf("wrapped: %w", mongo.CommandError{Code: code, Message: msg, Labels: labels})
	}
	for _, c := range []struct {
		err                  error
		aggregating, reading verdict
	}{
		{io.EOF, retry, retry},
		{context.DeadlineExceeded, retry, retry},
		{server(0, "connection closed", labelNetwork), retry, retry},
		{server(7777, "what?"), unknown, unknown},
		{server(7777, "what?", labelResumable), retry, retry},
		{server(7777, "what?", labelNotResumable), lost, lost},
		{server(286, "", labelNotResumable), lost, lost},
		{server(280, ""), lost, lost},
		{server(464, ""), lost, lost},
		{server(136, ""), lost, lost},
		{server(260, ""), lost, retry},
		{server(50811, ""), lost, retry},
		{server(40647, ""), lost, retry},
		{server(9, "Invalid resume token"), lost, retry},
		{server(9, "resume token string was not a valid hex string"), lost, retry},
		{server(9, "unknown operator"), unknown, unknown},
		{server(10334, ""), badEvent, badEvent},
		{server(47, ""), badEvent, badEvent},
		{server(13, ""), refused, refused},
		{server(18, "", labelNetwork), refused, refused},
		{server(43, ""), retry, retry},
		{server(13435, "", labelResumable), retry, retry},
		{server(10107, ""), retry, retry},
		{server(237, ""), retry, retry},
		{mongo.ErrClientDisconnected, refused, refused},
	} {
		if a, r := judge(c.err, atAggregate), judge(c.err, atGetMore); a != c.aggregating || r != c.reading {
			t.Errorf("%v: %d and %d, want %d and %d", c.err, a, r, c.aggregating, c.reading)
		}
	}
}

// The server's messages hold tokens and whole events.
func TestWordsHaveNoDocuments(t *testing.T) {
	ce := mongo.CommandError{Code: 280, Name: "ChangeStreamFatalError", Message: `cannot resume stream; the resume token was not found. {_data: "8264AB"}`}
	err := scope{database: "shop"}.refused("open the change stream", ce)
	if strings.Contains(err.Error(), "8264AB") || !strings.Contains(err.Error(), "the resume token was not found. … (ChangeStreamFatalError, code 280)") {
		t.Error(err)
	}
	var back mongo.CommandError
	if !errors.As(err, &back) || back.Message != ce.Message {
		t.Error("the driver's error is not reachable")
	}
	long := mongo.CommandError{Code: 1, Message: strings.Repeat("ü", 1000)}
	if got := messageOf(long); len(got) > maxMessage+50 {
		t.Errorf("%d bytes", len(got))
	}
}
