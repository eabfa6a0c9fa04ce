package changestream

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A Pipeline is a list of stages that the server applies to each event. A
// mongo.Pipeline converts to it:
//
//	changestream.Pipeline(mongo.Pipeline{
//		{{Key: "$match", Value: bson.D{{Key: "operationType", Value: "insert"}}}},
//	})
//
// The stages $match, $redact, $project, $addFields, $set, $unset, $replaceRoot and
// $replaceWith are possible. No stage can make an event lose the fields _id,
// operationType, clusterTime, ns and documentKey, or hide an event of type
// invalidate or dropDatabase: a stage that would do so in passing is completed
// before it is sent, and one that names such a field to remove or change it is
// refused.
type Pipeline []bson.D

// ParsePipeline parses a JSON array of stages. Types that JSON lacks are written
// as MongoDB Extended JSON: {"$date": "2026-01-31T00:00:00Z"}.
func ParsePipeline(text string) (Pipeline, error) {
	var p Pipeline
	if err := p.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("changestream: the pipeline is not valid: %w", err)
	}
	return p, nil
}

// UnmarshalText implements [encoding.TextUnmarshaler] as [ParsePipeline] does.
func (p *Pipeline) UnmarshalText(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("it must be UTF-8")
	}
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
			return errors.New("it must be a JSON array of stages, in brackets")
		}
		return fmt.Errorf("it must be a JSON array of stages: %w", err)
	}
	parsed := make(Pipeline, len(items))
	for i, item := range items {
		if err := bson.UnmarshalExtJSON(item, false, &parsed[i]); err != nil {
			return fmt.Errorf("stage[%d] is not valid Extended JSON: %w", i, err)
		}
	}
	if _, err := parsed.compile(); err != nil {
		return fmt.Errorf("stage%w", err)
	}
	*p = parsed
	return nil
}

// MarshalText implements [encoding.TextMarshaler]: it returns what UnmarshalText
// reads.
func (p Pipeline) MarshalText() ([]byte, error) {
	stages, err := p.normalized()
	if err != nil {
		return nil, err
	}
	return stages.text()
}

// normalized returns the stages with every value as the driver decodes it,
// whatever Go types it was written with.
func (p Pipeline) normalized() (Pipeline, error) {
	out := make(Pipeline, len(p))
	for i, stage := range p {
		raw, err := bson.Marshal(stage)
		if err == nil {
			err = bson.Unmarshal(raw, &out[i])
		}
		if err != nil {
			return nil, &stageError{i, fmt.Sprintf("the stage can't be encoded as BSON: %v", err)}
		}
	}
	return out, nil
}

// text is relaxed Extended JSON.
func (p Pipeline) text() ([]byte, error) {
	items := make([][]byte, len(p))
	for i, stage := range p {
		var err error
		if items[i], err = bson.MarshalExtJSON(stage, false, false); err != nil {
			return nil, err
		}
	}
	return slices.Concat([]byte("["), bytes.Join(items, []byte(",")), []byte("]")), nil
}

// id identifies normalized stages in a fingerprint. It is of relaxed Extended
// JSON in a canonical form: the same pipeline has the same id when it is written
// in Go, in YAML or in JSON, with numbers of any type, from a map or a bson.D.
func (p Pipeline) id() (string, error) {
	same := make(Pipeline, len(p))
	for i, stage := range p {
		same[i] = canonical(stage).(bson.D)
	}
	text, err := same.text()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8]), nil
}

// canonical sorts the keys of documents, and makes whole numbers integers.
func canonical(v any) any {
	switch v := v.(type) {
	case bson.D:
		out := make(bson.D, len(v))
		for i, e := range v {
			out[i] = bson.E{Key: e.Key, Value: canonical(e.Value)}
		}
		slices.SortStableFunc(out, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
		return out
	case bson.A:
		out := make(bson.A, len(v))
		for i, item := range v {
			out[i] = canonical(item)
		}
		return out
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	}
	return v
}

// maxPipelineText is how much of a pipeline a message repeats.
const maxPipelineText = 160

// abbreviated is the beginning of the text, for messages.
func (p Pipeline) abbreviated() string {
	text, err := p.text()
	switch {
	case err != nil:
		return "a pipeline that can't be shown"
	case len(text) > maxPipelineText:
		return strings.ToValidUTF8(string(text[:maxPipelineText]), "") + "…"
	}
	return string(text)
}
