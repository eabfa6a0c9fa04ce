package rigatoni

import "log/slog"

// thinned is the level at which a failed attempt is logged: the 1st, 2nd, 4th, 8th …
// in a row as warnings, since what fails may fail for long.
func thinned(attempt int) slog.Level {
	if attempt&(attempt-1) == 0 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
