package mongod

import "errors"

// Options say what to start. The zero value is one node of whatever mongod there
// is, fetched if need be.
type Options struct {
	// Binary is the server to run; default: what [Find] finds, which may fetch it.
	Binary Binary
	// Version is what Find is asked for if there is no Binary.
	Version string
	// Logf, if it is not nil, is told when a server is fetched.
	Logf func(format string, args ...any)

	// Nodes is how many members the replica set has; default 1, at most 7.
	Nodes int
	// OplogMB is the size of the oplog; default 64. It is a lower bound: the
	// oplog is cut now and then, not at every write (see SyncDelay).
	OplogMB int
	// SyncDelay is mongod's --syncdelay, the seconds between two checkpoints of
	// the storage engine; default 60. With 1 a full oplog is cut within seconds.
	SyncDelay int
	// Auth switches access control on. URI then has the credentials of a user
	// "root" who may do anything.
	Auth bool
	// Args are further arguments to mongod.
	Args []string
	// Dir is where the data lies, in a folder of its own that Stop removes;
	// default os.TempDir().
	Dir string
}

func (o Options) withDefaults() (Options, error) {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.OplogMB == 0 {
		o.OplogMB = 64
	}
	if o.SyncDelay == 0 {
		o.SyncDelay = 60
	}
	switch {
	case o.Nodes < 1 || o.Nodes > 7:
		return o, errors.New("mongod: Options.Nodes must be 1 to 7, the voting members that a replica set may have")
	case o.OplogMB < 1:
		return o, errors.New("mongod: Options.OplogMB must be at least 1")
	case o.SyncDelay < 1:
		return o, errors.New("mongod: Options.SyncDelay must be at least 1")
	}
	return o, nil
}
