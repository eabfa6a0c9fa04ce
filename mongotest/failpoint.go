package mongotest

import (
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// failPoints are the two that the tests of drivers use. A real server has them
// when it was started with enableTestCommands.
type failPoints struct {
	mu     sync.Mutex
	byName map[string]*failPoint
}

const (
	failCommand  = "failCommand"
	failCheckout = "failGetMoreAfterCursorCheckout"
)

type failPoint struct {
	skip, times int // times is -1 for always
	hits        int

	commands []string
	appName  string
	code     int
	labels   []string
	labelled bool
	hangUp   bool
	block    time.Duration
	concern  bson.Raw // a writeConcernError
}

func configureFailPoint(r *request) (*bsondoc.Builder, error) {
	name, ok := r.args[r.name].StringValueOK()
	if !ok || name != failCommand && name != failCheckout {
		return nil, cmderr.Unsupported("the fail point '" + name + "'")
	}
	data, err := r.document("data")
	if err != nil {
		return nil, err
	}
	fp, err := readFailPoint(r.args["mode"])
	if err == nil && fp != nil {
		err = fp.readData(data)
	}
	if err != nil {
		return nil, err
	}
	f := &r.server.failPoints
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName = map[string]*failPoint{}
	}
	hits := 0
	if was := f.byName[name]; was != nil {
		hits = was.hits
	}
	if fp == nil {
		delete(f.byName, name)
	} else {
		fp.hits = hits
		f.byName[name] = fp
	}
	return bsondoc.New().Int32("count", hits), nil
}

// readFailPoint reads the command; nil means off.
func readFailPoint(mode bson.RawValue) (*failPoint, error) {
	if word, ok := mode.StringValueOK(); ok {
		switch word {
		case "off":
			return nil, nil
		case "alwaysOn":
			return &failPoint{times: -1}, nil
		}
		return nil, cmderr.Errorf(cmderr.BadValue, "unknown mode: %s", word)
	}
	doc, ok := mode.DocumentOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.TypeMismatch, "'mode' must be a string or JSON object")
	}
	fp := &failPoint{times: -1}
	for _, e := range bsondoc.Fields(doc) {
		n, isInt := bsondoc.Int(e.Value())
		switch {
		case !isInt || n < 0:
			return nil, cmderr.Errorf(cmderr.BadValue, "'%s' must be a number of at least 0", e.Key())
		case e.Key() == "times":
			fp.times = int(n)
		case e.Key() == "skip":
			fp.skip = int(n)
		default:
			return nil, cmderr.Unsupported("the fail point mode '" + e.Key() + "'")
		}
	}
	return fp, nil
}

func (fp *failPoint) readData(data bson.Raw) error {
	for _, e := range bsondoc.Fields(data) {
		v := e.Value()
		ok := true
		switch e.Key() {
		case "failCommands":
			fp.commands, ok = stringList(v)
		case "errorLabels":
			fp.labels, ok = stringList(v)
			fp.labelled = true
		case "errorCode":
			var n int64
			n, ok = bsondoc.Int(v)
			fp.code = int(n)
		case "closeConnection":
			fp.hangUp = bsondoc.Truth(v, false)
		case "blockConnection", "failInternalCommands":
		case "blockTimeMS":
			var n int64
			n, ok = bsondoc.Int(v)
			if bsondoc.Truth(data.Lookup("blockConnection"), false) {
				fp.block = time.Duration(n) * time.Millisecond
			}
		case "appName":
			fp.appName, ok = v.StringValueOK()
		case "writeConcernError":
			fp.concern, ok = v.DocumentOK()
		default:
			return cmderr.Unsupported("the fail point data '" + e.Key() + "'")
		}
		if !ok {
			return cmderr.Errorf(cmderr.TypeMismatch, "the fail point's '%s' is of the wrong type %s", e.Key(), bsondoc.TypeName(v.Type))
		}
	}
	return nil
}

func stringList(v bson.RawValue) ([]string, bool) {
	if v.Type != bson.TypeArray {
		return nil, false
	}
	list := []string{}
	for _, item := range bsondoc.Items(v) {
		s, ok := item.StringValueOK()
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// strike applies failCommand to a request: it returns an error, changes the
// reply, or does nothing.
func (f *failPoints) strike(r *request) (fp *failPoint, err error) {
	fp = f.hit(failCommand, func(fp *failPoint) bool {
		return r.name != "configureFailPoint" && slices.Contains(fp.commands, r.name) && (fp.appName == "" || fp.appName == r.conn.appName)
	})
	if fp == nil {
		return nil, nil
	}
	if fp.block > 0 {
		if err := r.blocked(fp.block); err != nil {
			return nil, err
		}
	}
	switch {
	case fp.hangUp:
		return nil, errHangUp
	case fp.code != 0:
		e := cmderr.Errorf(fp.code, "Failing command via 'failCommand' failpoint")
		return nil, e.Label(fp.labelsOf(r, fp.code)...)
	}
	return fp, nil
}

// finish completes the reply of a request that succeeded with its write concern
// error, which may come from the fail point that was applied to it.
func (r *request) finish(reply *bsondoc.Builder, fp *failPoint) *bsondoc.Builder {
	concern := r.writeConcernError()
	var labels []string
	if fp != nil && fp.concern != nil {
		concern = fp.concern
		code, _ := bsondoc.Int(concern.Lookup("code"))
		labels = fp.labelsOf(r, int(code))
	}
	if concern != nil {
		reply.Doc("writeConcernError", concern)
	}
	reply.Float("ok", 1)
	if len(labels) > 0 {
		reply.Strings("errorLabels", labels)
	}
	return reply
}

// hit counts a request that matches a fail point, and returns the fail point if
// it applies to this one.
func (f *failPoints) hit(name string, meant func(*failPoint) bool) *failPoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	fp := f.byName[name]
	if fp == nil || !meant(fp) {
		return nil
	}
	if fp.skip > 0 {
		fp.skip--
		return nil
	}
	switch {
	case fp.times == 0:
		return nil
	case fp.times > 0:
		fp.times--
	}
	fp.hits++
	return fp
}

// blocked delays a command, but for no longer than its maxTimeMS.
func (r *request) blocked(d time.Duration) error {
	limit, err := r.maxTime()
	if err != nil {
		return err
	}
	late := limit > 0 && limit < d && r.name != "getMore"
	if late {
		d = limit
	}
	if err := r.await(nil, d); err != nil {
		return err
	}
	if late {
		return cmderr.Errorf(cmderr.MaxTimeMSExpired, "operation exceeded time limit")
	}
	return nil
}

// labelsOf returns the labels of an error code, unless the fail point sets its
// own.
func (fp *failPoint) labelsOf(r *request, code int) []string {
	ends := r.name == "commitTransaction" || r.name == "abortTransaction"
	again := slices.Contains(retryableCodes, code)
	switch {
	case fp.labelled:
		return fp.labels
	case isWatch(r) || code == cmderr.ChangeStreamFatalError || code == cmderr.ChangeStreamHistoryLost:
		return streamLabels(code)
	case again && r.hasTxn && (ends || r.cmd.retryable && !r.inTxn):
		return []string{"RetryableWriteError"}
	case fp.concern == nil && r.inTxn && (again || slices.Contains(transientCodes, code)):
		return []string{"TransientTransactionError"}
	}
	return nil
}

// The error codes after which a write can be retried, those after which a
// transaction can be, and those after which a change stream can be resumed.
var (
	transientCodes = []int{24, cmderr.WriteConflict, 239, 246, cmderr.NoSuchTransaction, 267}
	retryableCodes = []int{6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
	resumableCodes = append([]int{63, 133, 150, 234}, retryableCodes...)
)

func streamLabels(code int) []string {
	switch {
	case code == cmderr.ChangeStreamFatalError || code == cmderr.ChangeStreamHistoryLost:
		return []string{"NonResumableChangeStreamError"}
	case slices.Contains(resumableCodes, code):
		return []string{"ResumableChangeStreamError"}
	}
	return nil
}

// afterCheckout returns the error code of failGetMoreAfterCursorCheckout for a
// getMore; 0 if it is off.
func (f *failPoints) afterCheckout() int {
	if fp := f.hit(failCheckout, func(*failPoint) bool { return true }); fp != nil {
		return fp.code
	}
	return 0
}
