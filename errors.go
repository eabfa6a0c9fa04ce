package rigatoni

import "strings"

func (e *ChangedStreamError) Error() string {
	return ErrChangedStream.Error() + " (" + strings.Join(e.Changes, "; ") + "); to go on from its time with the stream as it is now, accept " + e.Accept
}

// Is makes a ChangedStreamError an ErrChangedStream.
func (e *ChangedStreamError) Is(target error) bool { return target == ErrChangedStream }
