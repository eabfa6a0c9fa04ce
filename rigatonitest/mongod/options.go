package mongod

import "errors"

// Options configure a server. The zero value means one node of any mongod,
// which is fetched if necessary.
type Options struct {
	// Binary is the server to run; default: the result of [Find], which may
	// fetch one.
	Binary Binary
	// Version is the version to find if there is no Binary.
	Version string
	// Logf, if it is not nil, logs downloads.
	Logf func(format string, args ...any)

	// Nodes is the number of members of the replica set; default 1, at most 7.
	Nodes int
	// OplogMB is the size of the oplog; default 64. It is a lower bound,
	// because the oplog is truncated from time to time, not at every write (see
	// SyncDelay).
	OplogMB int
	// SyncDelay is mongod's --syncdelay, the seconds between two checkpoints of
	// the storage engine; default 60. With 1 a full oplog is truncated within
	// seconds.
	SyncDelay int
	// Auth enables access control. URI then contains the credentials of a user
	// "root" with all rights.
	Auth bool
	// Args are further arguments to mongod.
	Args []string
	// Dir is where the directory of the data is created, which Stop removes;
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
