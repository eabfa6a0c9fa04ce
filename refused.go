package rigatoni

import (
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// Permanent marks an error of Deliver or of a transform as one that no repetition
// will mend: the event is refused at once. It is nil if err is.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

// A PermanentError is what [Permanent] returns.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

func isPermanent(err error) bool { return errors.As(err, new(*PermanentError)) }

// Partial is the error of a Deliver that delivered the first n events of the
// batch and failed at the next, with err. The pipeline continues with that one.
// It is nil if err is.
func Partial(n int, err error) error {
	if err == nil {
		return nil
	}
	return &PartialError{Delivered: n, Err: err}
}

// A PartialError is what [Partial] returns.
type PartialError struct {
	Delivered int
	Err       error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("after %d events of the batch: %v", e.Delivered, e.Err)
}

func (e *PartialError) Unwrap() error { return e.Err }

// A RefusedError is the error with which a pipeline stops at an event that its
// destination or its transform refuses.
type RefusedError struct {
	Event    Event // as the server sent it
	Attempts int
	Err      error
}

func (e *RefusedError) Error() string {
	times := ""
	if e.Attempts > 1 {
		times = fmt.Sprintf(" in %d attempts", e.Attempts)
	}
	t := e.Event.ClusterTime()
	return fmt.Sprintf("an event was refused%s (%s in %s, documentKey %s, cluster time %d.%d): %v",
		times, quote.Name(e.Event.OperationType()), quote.Name(e.Event.Namespace().String()), keyText(e.Event), t.T, t.I, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// maxKeyText is as much of a documentKey as is worth a message.
const maxKeyText = 200

func keyText(ev Event) string {
	key := ev.DocumentKey()
	if key == nil {
		return "none"
	}
	doc, err := bson.MarshalExtJSON(key, false, false)
	if err != nil {
		return "not valid"
	}
	if len(doc) > maxKeyText {
		return quote.Text(strings.ToValidUTF8(string(doc[:maxKeyText]), "")) + "…"
	}
	return quote.Text(string(doc))
}

// eventAttrs are the log attributes that identify an event, as the server sent it.
func eventAttrs(ev Event) []any {
	ev = Event{Raw: ev.sent()}
	return []any{
		"operation", ev.OperationType(), "namespace", ev.Namespace().String(),
		"document_key", keyText(ev), "cluster_time", timestampText(ev.ClusterTime()),
	}
}

// timestampText is a cluster time as log attributes have it.
func timestampText(t bson.Timestamp) string { return fmt.Sprintf("%d.%d", t.T, t.I) }
