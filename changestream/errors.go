package changestream

import "errors"

// What an error of this package means, for [errors.Is]. An error that is none of these,
// and no [rigatoni.ErrHistoryLost] or [rigatoni.ErrChangedStream], is one of the
// driver, or one that this package doesn't know.
var (
	// ErrRefused: the server refuses this user, or can't do what is asked of it (a
	// standalone server, a view, an option or a stage that it doesn't know). Another
	// attempt helps only after that was changed.
	ErrRefused = errors.New("refused by the server")
	// ErrUnreachable: no server answers at the addresses of the connection string, or
	// none that the read preference allows, or one that is not the primary any more or
	// not yet. Another attempt may help.
	ErrUnreachable = errors.New("the MongoDB server is unreachable")
	// ErrUnreadable: the next event can't be read: it is too large, an image that is
	// required is missing, or Options.Pipeline fails on it.
	ErrUnreadable = errors.New("an event can't be read")
	// ErrFuture: the start time, or the checkpoint, is later than the server's clock.
	ErrFuture = errors.New("in the future of the server")
)
