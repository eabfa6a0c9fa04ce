package resumetoken_test

import (
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// insertToken is the _id of an insert event, as a MongoDB 7.0 gave it.
func insertToken() bson.Raw {
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8266B518C6000000012B042C0100296E5A1004CDFFC2D506504F98B11EDBF328641438" +
		"463C6F7065726174696F6E54797065003C696E736572740046646F63756D656E744B65790046645F6964006466B518C657C4C7204E91E80F000004"}})
	if err != nil {
		panic(err)
	}
	return doc
}

func Example() {
	token, err := resumetoken.New(insertToken())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token)

	text, err := token.ExtJSON()
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := resumetoken.Parse(text)
	fmt.Println(again == token, err)
	// Output:
	// resume token (2024-08-08T19:13:10Z, 205 bytes)
	// true <nil>
}

func ExampleToken_Decode() {
	token, err := resumetoken.New(insertToken())
	if err != nil {
		fmt.Println(err)
		return
	}
	switch said, err := token.Decode(); {
	case errors.Is(err, resumetoken.ErrOpaque):
		fmt.Println("a foreign server's token: resume with it, and ask it nothing")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println(said.Format, said.Time().UTC(), said.OperationType)
		fmt.Println(said.UUID, said.DocumentKey)
	}
	// Output:
	// v2 2024-08-08 19:13:10 +0000 UTC insert
	// cdffc2d5-0650-4f98-b11e-dbf328641438 {"_id": {"$oid":"66b518c657c4c7204e91e80f"}}
}

func ExampleCompare() {
	event, err := resumetoken.New(insertToken())
	if err != nil {
		fmt.Println(err)
		return
	}
	// A high-water mark of the same moment: nothing happened up to here.
	mark, err := resumetoken.Parse([]byte(`{"_data":"8266B518C6000000012B0429296E1404"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resumetoken.Compare(mark, event))
	// Output: -1 true
}
