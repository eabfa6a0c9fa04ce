package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"
)

// LogClient makes go-redis write its own log lines to l. It has one logger for the whole
// process, which by default writes to standard error, so this is for a program's main
// function; package redisstore doesn't call it, because others in the process may use
// go-redis too. There are few such lines: this package returns or logs what goes wrong
// with its own calls.
func LogClient(l *slog.Logger) { redis.SetLogger(clientLogger{l}) }

type clientLogger struct{ log *slog.Logger }

// Printf is go-redis's.
func (l clientLogger) Printf(ctx context.Context, format string, v ...any) {
	l.log.InfoContext(ctx, "redis client", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}
