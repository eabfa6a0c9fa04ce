package changestream

import (
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
