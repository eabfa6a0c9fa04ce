package mongotest

import (
	"crypto/sha256"
	"encoding/base64"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// sessions are the logical sessions that clients have used. They exist as long
// as the server: a client ends its own when it disconnects.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*session
}

// A session holds its last retryable write and its transaction.
type session struct {
	mu        sync.Mutex
	txnNumber int64
	reply     bson.Raw // of the retryable write with that number
	txn       *transaction
}

// openSession returns a request's session and transaction.
func (s *Server) openSession(r *request) error {
	if v, ok := r.args["lsid"]; ok {
		lsid, ok := v.DocumentOK()
		if !ok {
			return cmderr.Errorf(cmderr.TypeMismatch, "BSON field 'OperationSessionInfo.lsid' is the wrong type '%s', expected type 'object'", bsondoc.TypeName(v.Type))
		}
		id, err := sessionID(lsid)
		if err != nil {
			return err
		}
		r.lsid, r.session = lsid, s.sessions.get(id)
	}
	if n, ok := r.args["txnNumber"]; ok {
		if r.txnNumber, r.hasTxn = n.Int64OK(); !r.hasTxn {
			return cmderr.Errorf(cmderr.TypeMismatch, "BSON field 'OperationSessionInfo.txnNumber' is the wrong type '%s', expected type 'long'", bsondoc.TypeName(n.Type))
		}
	}
	auto, inTxn := r.args["autocommit"]
	_, starts := r.args["startTransaction"]
	switch {
	case r.hasTxn && r.session == nil:
		return cmderr.Errorf(cmderr.InvalidOptions, "Transaction number requires a session ID to also be specified")
	case inTxn && !r.hasTxn:
		return cmderr.Errorf(cmderr.InvalidOptions, "'autocommit' field requires a transaction number to also be specified")
	case inTxn && bsondoc.Truth(auto, true):
		return cmderr.Errorf(cmderr.InvalidOptions, "Specifying autocommit=true is not allowed.")
	case inTxn:
		r.inTxn = true
	case starts:
		return cmderr.Errorf(cmderr.InvalidOptions, "'startTransaction' field requires 'autocommit' field to also be specified")
	case r.hasTxn && !r.cmd.retryable:
		return cmderr.Errorf(cmderr.NotRetryableWrite, "txnNumber may only be provided for multi-document transactions and retryable write commands. "+
			"autocommit:false was not provided, and %s is not a retryable write command.", r.name)
	}
	return nil
}

// sessionID returns the key that identifies a session.
func sessionID(lsid bson.Raw) (string, error) {
	subtype, id, ok := lsid.Lookup("id").BinaryOK()
	if !ok || subtype != bson.TypeBinaryUUID || len(id) != 16 {
		return "", cmderr.Missing("OperationSessionInfo.lsid", "id")
	}
	return string(id), nil
}

// nobodyDigest is the digest of the user name of a client that is not
// authenticated.
func nobodyDigest() [sha256.Size]byte { return sha256.Sum256(nil) }

// sessionText returns a session as in error messages.
func sessionText(id string) string {
	nobody := nobodyDigest()
	return bsonUUID([16]byte([]byte(id))) + " - " + base64.StdEncoding.EncodeToString(nobody[:]) + " -  - "
}

func (s *sessions) get(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]*session{}
	}
	if s.byID[id] == nil {
		s.byID[id] = &session{txnNumber: -1}
	}
	return s.byID[id]
}

// executed returns the reply of a retryable write that was executed already;
// nil if it was not.
func (s *session) executed(number int64) (*bsondoc.Builder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case number < s.txnNumber:
		return nil, tooOld(number, s.txnNumber)
	case number == s.txnNumber && s.reply != nil:
		return bsondoc.New().Append(s.reply), nil
	}
	return nil, nil
}

func tooOld(number, newest int64) *cmderr.Error {
	return cmderr.Errorf(cmderr.TransactionTooOld, "Retryable write with txnNumber %d is prohibited on session because a newer "+
		"retryable write with txnNumber %d has already started on this session.", number, newest)
}

func (s *session) keep(number int64, reply *bsondoc.Builder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txnNumber, s.reply = number, reply.Clone().Done()
}

// endSessions removes sessions. Their cursors remain open: a real server closes
// those of ended sessions only every few minutes.
func endSessions(r *request) (*bsondoc.Builder, error) {
	for _, v := range bsondoc.Items(r.args[r.name]) {
		if lsid, ok := v.DocumentOK(); ok {
			if id, err := sessionID(lsid); err == nil {
				r.server.forget(id)
			}
		}
	}
	return bsondoc.New(), nil
}

func (s *Server) forget(id string) {
	s.sessions.mu.Lock()
	ended := s.sessions.byID[id]
	delete(s.sessions.byID, id)
	s.sessions.mu.Unlock()
	if ended != nil {
		s.store.abandon(ended)
	}
}

// killSessions kills the cursors and transactions of the given sessions, of all
// sessions if none is given.
func killSessions(r *request) (*bsondoc.Builder, error) {
	named := map[string]bool{}
	for _, v := range bsondoc.Items(r.args[r.name]) {
		if doc, ok := v.DocumentOK(); ok {
			id, err := sessionID(doc)
			if err != nil {
				return nil, cmderr.Unsupported(r.name + " by user")
			}
			named[id] = true
		}
	}
	r.server.cursors.kill(func(c *cursor) bool {
		return c.session != "" && (len(named) == 0 || named[c.session])
	})
	r.server.sessions.mu.Lock()
	var ids []string
	for id := range r.server.sessions.byID {
		if len(named) == 0 || named[id] {
			ids = append(ids, id)
		}
	}
	r.server.sessions.mu.Unlock()
	for _, id := range ids {
		r.server.forget(id)
	}
	return bsondoc.New(), nil
}
