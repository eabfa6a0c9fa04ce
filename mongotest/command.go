package mongotest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A command is one that the server supports. Everything else is refused by
// name: an unknown command with CommandNotFound, an unknown field with the code
// that a real server has for it, and a field that only a real server supports
// with NotImplemented.
type command struct {
	run func(*request) (*bsondoc.Builder, error)
	// fields are the supported ones, besides those of every command.
	fields []string
	// others are fields that a real server supports. They are refused unless
	// their value is zero, false or empty.
	others []string
	// write commands need a primary. A retryable one is not executed twice.
	write, retryable bool
	// txn commands may be part of a transaction.
	txn bool
	// read commands fail on a secondary unless the read preference allows it.
	read bool
}

// errHangUp makes the server close the connection instead of answering.
var errHangUp = errors.New("mongotest: the connection is to be closed")

// everyCommand lists fields that any command may have.
var everyCommand = []string{
	"$db", "lsid", "txnNumber", "$clusterTime", "$readPreference", "readConcern", "writeConcern", "maxTimeMS", "comment",
	"autocommit", "startTransaction", "apiVersion", "apiStrict", "apiDeprecationErrors", "$audit", "$client", "mayBypassWriteBlocking",
	"$configTime", "$topologyTime", "help",
}

func allCommands() map[string]*command {
	all := map[string]*command{}
	for _, group := range []map[string]*command{
		adminCommands(), crudCommands(), schemaCommands(), cursorCommands(), transactionCommands(), faultCommands(),
	} {
		for name, c := range group {
			all[name] = c
		}
	}
	return all
}

// A request is a command with its arguments and its connection.
type request struct {
	server *Server
	conn   *conn
	msg    *message
	name   string
	body   bson.Raw
	db     string
	args   map[string]bson.RawValue
	cmd    *command

	session   *session // nil without lsid
	lsid      bson.Raw
	txnNumber int64
	hasTxn    bool // it has a txnNumber
	inTxn     bool // it is part of a transaction, or begins one
	txn       *transaction
	concern   readConcern
}

func (s *Server) newRequest(c *conn, m *message) (*request, error) {
	r := &request{server: s, conn: c, msg: m, body: m.body, args: map[string]bson.RawValue{}}
	for i, e := range bsondoc.Fields(m.body) {
		if i == 0 {
			r.name = e.Key()
		}
		r.args[e.Key()] = e.Value()
	}
	db, ok := r.args["$db"].StringValueOK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.MissingField, "OP_MSG requests require a $db argument")
	}
	r.db = db
	if m.legacy && !isHello(r.name) {
		return nil, cmderr.Errorf(cmderr.UnsupportedOpQuery, "Unsupported OP_QUERY command: %s. The client driver may require an upgrade. "+
			"For more details see https://dochub.mongodb.org/core/legacy-opcode-removal", r.name)
	}
	if r.cmd = s.commands[r.name]; r.cmd == nil {
		return nil, cmderr.Errorf(cmderr.CommandNotFound, "no such command: '%s'", r.name)
	}
	for name := range m.sequences {
		if !slices.Contains(r.cmd.fields, name) {
			return nil, cmderr.Errorf(cmderr.UnknownField, "BSON field '%s.%s' is an unknown field.", r.name, name)
		}
	}
	return r, r.checkFields()
}

func (r *request) checkFields() error {
	if r.cmd.fields == nil && r.cmd.others == nil {
		return nil // it accepts any field
	}
	for _, e := range bsondoc.Fields(r.body)[1:] {
		name := e.Key()
		switch {
		case slices.Contains(r.cmd.fields, name), slices.Contains(everyCommand, name):
		case !slices.Contains(r.cmd.others, name):
			return cmderr.Errorf(cmderr.UnknownField, "BSON field '%s.%s' is an unknown field.", fullName(r.name), name)
		case !isUnset(e.Value()):
			return cmderr.Unsupported("the option '" + name + "' of " + r.name)
		}
	}
	return nil
}

// fullName returns a command's name as in messages about its fields.
func fullName(name string) string {
	if name == "find" {
		return "FindCommandRequest"
	}
	return name
}

// isUnset reports whether an option's value is the same as leaving it out.
func isUnset(v bson.RawValue) bool {
	switch v.Type {
	case bson.TypeNull, bson.TypeUndefined:
		return true
	case bson.TypeBoolean:
		return !v.Boolean()
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return len(v.Value) <= 5
	}
	n, ok := bsondoc.Int(v)
	return ok && n == 0
}

// run executes a command, unless a fail point or an earlier execution replies.
func (s *Server) run(r *request) (*bsondoc.Builder, error) {
	if err := s.openSession(r); err != nil {
		return nil, err
	}
	if err := r.checkReadConcern(); err != nil {
		return nil, err
	}
	fp, err := s.failPoints.strike(r)
	if err != nil {
		return nil, err
	}
	if r.inTxn {
		if err := s.store.joinTransaction(r); err != nil {
			return nil, err
		}
	}
	if err := s.checkPrimary(r); err != nil {
		return nil, err
	}
	reply, err := s.runOnce(r)
	if err != nil {
		return nil, err
	}
	return r.finish(reply, fp), nil
}

// runOnce returns the original reply for a retryable write that was executed
// already, whose reply the client did not receive.
func (s *Server) runOnce(r *request) (*bsondoc.Builder, error) {
	retryable := r.cmd.retryable && r.hasTxn && r.txn == nil
	if retryable {
		done, err := r.session.executed(r.txnNumber)
		if err != nil || done != nil {
			return done, err
		}
	}
	reply, err := r.cmd.run(r)
	if retryable && err == nil {
		r.session.keep(r.txnNumber, reply)
	}
	if r.txn != nil && err != nil {
		err = s.store.failTransaction(r, cmderr.From(err))
	}
	return reply, err
}

// checkPrimary refuses what a secondary does not do.
func (s *Server) checkPrimary(r *request) error {
	if s.topology.primary() {
		return nil
	}
	word := "not master"
	if r.conn.helloOK {
		word = "not primary"
	}
	var e *cmderr.Error
	switch {
	case r.cmd.write || r.txn != nil:
		e = cmderr.Errorf(cmderr.NotWritablePrimary, "%s", word)
		if r.hasTxn && r.cmd.retryable {
			e.Label("RetryableWriteError")
		}
	case r.cmd.read && !r.secondaryOK():
		e = cmderr.Errorf(cmderr.NotPrimaryNoSecondaryOk, "%s", word+" and slaveOk=false")
		if isWatch(r) {
			e.Label("ResumableChangeStreamError")
		}
	default:
		return nil
	}
	return e
}

func (r *request) secondaryOK() bool {
	pref, ok := r.args["$readPreference"].DocumentOK()
	if !ok {
		return false
	}
	mode, ok := pref.Lookup("mode").StringValueOK()
	return ok && mode != "primary"
}

// namespace returns the collection that the first field of the command names.
func (r *request) namespace() (namespace, error) {
	coll, ok := r.args[r.name].StringValueOK()
	if !ok {
		return namespace{}, cmderr.Errorf(cmderr.BadValue, "collection name has invalid type %s", bsondoc.TypeName(r.args[r.name].Type))
	}
	ns := namespace{r.db, coll}
	return ns, ns.check()
}

// documents returns an array of documents, from the command or from a section
// of the message.
func (r *request) documents(field string) ([]bson.Raw, error) {
	if docs, ok := r.msg.sequences[field]; ok {
		return docs, nil
	}
	v, ok := r.args[field]
	if !ok {
		return nil, cmderr.Missing(r.name, field)
	}
	if v.Type != bson.TypeArray {
		return nil, r.wrongType(field, v, "array")
	}
	var docs []bson.Raw
	for _, item := range bsondoc.Items(v) {
		doc, ok := item.DocumentOK()
		if !ok {
			return nil, cmderr.Errorf(cmderr.TypeMismatch, "BSON field '%s.%s.%d' is the wrong type '%s', expected type 'object'", r.name, field, len(docs), bsondoc.TypeName(item.Type))
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

func (r *request) wrongType(field string, v bson.RawValue, want string) *cmderr.Error {
	return cmderr.Errorf(cmderr.TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type '%s'", r.name, field, bsondoc.TypeName(v.Type), want)
}

// document returns an optional document, an empty one if it is missing.
func (r *request) document(field string) (bson.Raw, error) {
	return documentField(r.name, field, r.args[field])
}

func documentField(where, field string, v bson.RawValue) (bson.Raw, error) {
	switch v.Type {
	case 0, bson.TypeNull:
		return bsondoc.Empty, nil
	case bson.TypeEmbeddedDocument:
		return v.Document(), nil
	}
	return nil, cmderr.Errorf(cmderr.TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'object'", where, field, bsondoc.TypeName(v.Type))
}

func (r *request) flag(field string, otherwise bool) bool {
	return bsondoc.Truth(r.args[field], otherwise)
}

// count returns a number that may not be negative.
func (r *request) count(field string, otherwise int) (int, error) {
	v, ok := r.args[field]
	if !ok || v.Type == bson.TypeNull {
		return otherwise, nil
	}
	n, ok := bsondoc.Int(v)
	if !ok {
		return 0, r.wrongType(field, v, "long")
	}
	if n < 0 {
		return 0, cmderr.Errorf(cmderr.Negative, "BSON field '%s' value must be >= 0, actual value '%d'", field, n)
	}
	return int(n), nil
}

// maxTime returns maxTimeMS; 0 means no limit.
func (r *request) maxTime() (time.Duration, error) {
	v, ok := r.args["maxTimeMS"]
	if !ok {
		return 0, nil
	}
	n, ok := bsondoc.Int(v)
	if !ok {
		return 0, cmderr.Errorf(cmderr.TypeMismatch, "maxTimeMS must be a number")
	}
	if n < 0 || n > 1<<31-1 {
		return 0, cmderr.Errorf(cmderr.BadValue, "%d value for maxTimeMS is out of range", n)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// A namespace is a collection's full name.
type namespace struct{ db, coll string }

func (n namespace) String() string { return n.db + "." + n.coll }

// isInternal reports whether a database is one of the server's own.
func isInternal(db string) bool { return db == "admin" || db == "config" || db == "local" }

func (n namespace) check() error {
	switch {
	case n.db == "" || len(n.db) > 63 || strings.ContainsAny(n.db, "/\\. \"$\x00"):
		return cmderr.Errorf(cmderr.InvalidNamespace, "Invalid database name: '%s'", n.db)
	case strings.Contains(n.coll, "$"):
		return cmderr.Errorf(cmderr.InvalidNamespace, "Invalid collection name: %s", n.coll)
	case n.coll == "" || n.coll[0] == '.' || strings.HasSuffix(n.coll, ".") || strings.Contains(n.coll, "\x00") || len(n.String()) > 255:
		return cmderr.Errorf(cmderr.InvalidNamespace, "Invalid namespace specified '%s'", n)
	}
	return nil
}

func (n namespace) field(name string, d *bsondoc.Builder) {
	at := d.Open(bson.TypeEmbeddedDocument, name)
	d.Str("db", n.db)
	if n.coll != "" {
		d.Str("coll", n.coll)
	}
	d.Close(at)
}
