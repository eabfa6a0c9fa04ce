package changestream

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Who has not logged in at all needs a user, and not a right.
func TestNobodyLoggedIn(t *testing.T) {
	for message, want := range map[string]string{
		"command aggregate requires authentication":          "names no user: mongodb://USER:PASSWORD@HOST/",
		"not authorized on shop to execute command { a: 1 }": "needs the privileges find and changeStream",
	} {
		err := scope{database: "shop"}.refused("open the change stream", mongo.CommandError{Code: codeUnauthorized, Name: "Unauthorized", Message: message})
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", message, err)
		}
	}
}

// A login that is refused is that for each command that waits for it, and no server
// that is away.
func TestLoginOfAnotherIsRefused(t *testing.T) {
	cleared := errors.New("connection pool for h:1 was cleared because another operation failed with: connection() error occurred during connection handshake: " +
		`auth error: sasl conversation error: unable to authenticate using mechanism "SCRAM-SHA-256": (AuthenticationFailed) Authentication failed.`)
	err := scope{database: "shop"}.refused("connect to the server", cleared)
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "the user name or the password is wrong") {
		t.Errorf("refused: %t, unreachable: %t: %v", errors.Is(err, ErrRefused), errors.Is(err, ErrUnreachable), err)
	}
}

// An answer of a member that is not the primary any more, or that starts, says nothing
// about the stream: a start that fails with it is one to be repeated.
func TestOpeningDuringAFailoverIsUnreachable(t *testing.T) {
	for _, code := range failovers {
		err := scope{database: "shop"}.refused("open the change stream", mongo.CommandError{Code: code, Message: "not primary"})
		if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrRefused) {
			t.Errorf("code %d: %v is not an ErrUnreachable", code, err)
		}
	}
}
