package checkpoints

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An Offset is a position that another tool has kept.
type Offset struct {
	Name  string // what it is of, in that tool's words
	Token resumetoken.Token
	// Unusable says why there is no position in it; "" if there is one.
	Unusable string
}

// ErrNoToken: what is to be imported holds no resume token.
var ErrNoToken = errors.New("there is no resume token in it")

// ParseToken reads a resume token in the forms in which programs keep one: as JSON
// ({"_data": "82…"}, Extended or of the shell), the hexadecimal digits of its _data
// alone, or the document's BSON, as it is or in base64 or hexadecimal.
func ParseToken(text []byte) (resumetoken.Token, error) {
	t, err := parseToken(text)
	if err != nil {
		return t, err
	}
	if _, err := t.Decode(); errors.Is(err, resumetoken.ErrMalformed) {
		return resumetoken.Token{}, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	return t, nil
}

func parseToken(text []byte) (resumetoken.Token, error) {
	if t, err := resumetoken.New(text); err == nil {
		return t, nil
	}
	trimmed := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	if strings.HasPrefix(trimmed, "{") {
		t, err := resumetoken.Parse([]byte(shellJSON(trimmed)))
		if err != nil {
			return t, fmt.Errorf("%w: %w", ErrNoToken, err)
		}
		return t, nil
	}
	if digits, err := hex.DecodeString(trimmed); err == nil {
		if t, err := resumetoken.New(digits); err == nil {
			return t, nil
		}
		return hexToken(trimmed)
	}
	if doc, err := base64.StdEncoding.DecodeString(trimmed); err == nil {
		if t, err := resumetoken.New(doc); err == nil {
			return t, nil
		}
	}
	return resumetoken.Token{}, fmt.Errorf("%w: it is neither JSON with _data, nor hexadecimal digits, nor BSON", ErrNoToken)
}

// hexToken is the token with that _data, if it is one of MongoDB's.
func hexToken(data string) (resumetoken.Token, error) {
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		return resumetoken.Token{}, err
	}
	t, err := resumetoken.New(doc)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	if _, err := t.Decode(); err != nil {
		return resumetoken.Token{}, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	return t, nil
}

// shellJSON makes JSON of a document as the shell prints it: { _data: '82…' }.
func shellJSON(text string) string {
	if json.Valid([]byte(text)) {
		return text
	}
	text = strings.ReplaceAll(text, "'", `"`)
	for _, name := range []string{"_data", "_typeBits"} {
		for _, before := range []string{"{", ",", " "} {
			text = strings.ReplaceAll(text, before+name+":", before+`"`+name+`":`)
		}
	}
	return text
}

// Debezium reads the offsets of Debezium's MongoDB connector.
func Debezium(text []byte) ([]Offset, error) {
	return offsets(text, "resume_token", func(o connectOffset) string {
		if isTrue(o.value["initsync"]) {
			return "its initial snapshot has not finished"
		}
		if o.value["_id"] != nil {
			return "it is of MongoDB's Kafka connector; use import mongo-kafka"
		}
		return "it has no resume_token: nothing has been streamed yet, or it is of Debezium before 1.8; use checkpoint set --to-time SECONDS.ORDINAL with its sec and ord"
	})
}

// MongoKafka reads the offsets of MongoDB's Kafka source connector.
func MongoKafka(text []byte) ([]Offset, error) {
	return offsets(text, "_id", func(o connectOffset) string {
		if o.value["resume_token"] != nil {
			return "it is of Debezium; use import debezium"
		}
		return "it has no _id"
	})
}

// offsets reads the offsets of a connector that keeps its token in a field; missing
// says why one has none.
func offsets(text []byte, field string, missing func(connectOffset) string) ([]Offset, error) {
	all, err := connectOffsets(text)
	if err != nil {
		return nil, err
	}
	var found []Offset
	for _, o := range all {
		offset := Offset{Name: o.name()}
		var token string
		switch {
		case isTrue(o.value["copy"]):
			offset.Unusable = "it has not finished to copy what existed"
		case isTrue(o.value["initsync"]), json.Unmarshal(o.value[field], &token) != nil:
			offset.Unusable = missing(o)
		default:
			if offset.Token, err = ParseToken([]byte(token)); err != nil {
				return nil, fmt.Errorf("the %s of %s: %w", field, o.name(), err)
			}
		}
		found = append(found, offset)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: there are no offsets", ErrNoToken)
	}
	return found, nil
}

// isTrue reports whether a field is true, or the string "true".
func isTrue(field json.RawMessage) bool {
	return string(field) == "true" || string(field) == `"true"`
}

// Choose takes the one offset whose name has the text, or the only one.
func Choose(all []Offset, text string) (Offset, error) {
	var names []string
	var match []Offset
	for _, o := range all {
		names = append(names, o.Name)
		if strings.Contains(o.Name, text) {
			match = append(match, o)
		}
	}
	switch {
	case len(match) != 1 && text == "":
		return Offset{}, fmt.Errorf("%w: there are %d offsets; choose one with --from-name: %s", ErrRefused, len(all), strings.Join(names, "; "))
	case len(match) != 1:
		return Offset{}, fmt.Errorf("%w: %d offsets have %q in their names: %s", ErrRefused, len(match), text, strings.Join(names, "; "))
	case match[0].Unusable != "":
		return Offset{}, fmt.Errorf("%w: %s can't be taken over: %s", ErrRefused, strings.TrimSpace("the offset "+match[0].Name), match[0].Unusable)
	}
	return match[0], nil
}
