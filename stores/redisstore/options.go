package redisstore

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Options say how to use Redis. The zero value of each field is its default;
// nil *Options are all defaults. Each can be given in the URL as well, under the
// name in brackets, and then the URL wins: redis://host/0?pool_size=4&ttl=168h.
// There a duration has its unit (500ms, 168h), and 0 means none.
//
// What is out of range is refused by [Open], with a sentence that names it.
type Options struct {
	// PoolSize [pool_size] is the greatest number of connections. Calls beyond
	// them wait for a free one, at most for ReadTimeout. 0: 10. At most 10,000.
	PoolSize int

	// TTL [ttl] is after how long without a save, grant or renewal a
	// checkpoint expires, exact to the millisecond; whole milliseconds. 0: never.
	TTL time.Duration

	// MaxRetries [max_retries] is how often an operation is repeated after its
	// first attempt failed, where that is safe (see the package doc).
	// 0: 3; -1: never. At most 100. Opening is never repeated.
	MaxRetries int

	// MinRetryBackoff and MaxRetryBackoff [min_retry_backoff,
	// max_retry_backoff] are the wait before the first repetition and the longest
	// one. It doubles each time, and up to half of it is left off by chance.
	// 0: 8 ms and 512 ms. At most a minute.
	MinRetryBackoff, MaxRetryBackoff time.Duration

	// ConnectTimeout [connection_timeout] is how long one attempt to
	// connect may take, and [Open] in all. 0: 5 s. At most 10 minutes.
	ConnectTimeout time.Duration

	// ReadTimeout and WriteTimeout [read_timeout, write_timeout] are how long
	// one attempt waits for Redis to answer, and to take what is sent. A call
	// with a context without a deadline returns, from a server that has frozen, after
	// MaxRetries+1 times ReadTimeout, and the waits in between; a context's
	// deadline is kept to, and one that is cancelled while Redis does not answer
	// is heeded after ReadTimeout at the latest. 0: 3 s. At most 10 minutes.
	ReadTimeout, WriteTimeout time.Duration

	// KeyPrefix [key_prefix] begins the name of every key in Redis. Stores with
	// different prefixes don't see each other. Without braces. "": "rigatoni:".
	KeyPrefix string

	// Logger is told of repeated attempts, and at opening of a configuration that
	// may lose checkpoints. nil: slog.Default().
	Logger *slog.Logger
}

const (
	maxPoolSize = 10_000
	maxRetries  = 100
	maxBackoff  = time.Minute
	maxTimeout  = 10 * time.Minute
)

// complete returns o with its defaults filled in, or an ErrInvalid that names
// the field, or the parameter if it came from a URL.
func (o Options) complete(fromURL map[string]bool) (Options, error) {
	name := func(field, parameter string) string {
		if fromURL[parameter] {
			return parameter
		}
		return field
	}
	check := checker{}
	check.count(name("PoolSize", "pool_size"), &o.PoolSize, 1, maxPoolSize, 10)
	if o.MaxRetries != -1 {
		check.count(name("MaxRetries", "max_retries"), &o.MaxRetries, 1, maxRetries, 3)
	}
	o.MaxRetries = max(o.MaxRetries, 0)
	check.duration(name("MinRetryBackoff", "min_retry_backoff"), &o.MinRetryBackoff, maxBackoff, 8*time.Millisecond)
	check.duration(name("MaxRetryBackoff", "max_retry_backoff"), &o.MaxRetryBackoff, maxBackoff, max(512*time.Millisecond, o.MinRetryBackoff))
	check.duration(name("ConnectTimeout", "connection_timeout"), &o.ConnectTimeout, maxTimeout, 5*time.Second)
	check.duration(name("ReadTimeout", "read_timeout"), &o.ReadTimeout, maxTimeout, 3*time.Second)
	check.duration(name("WriteTimeout", "write_timeout"), &o.WriteTimeout, maxTimeout, 3*time.Second)
	switch ttl := name("TTL", "ttl"); {
	case o.TTL < 0:
		check.refuse("%s is %v: a time to live is at least 1ms, or 0 for none", ttl, o.TTL)
	case o.TTL%time.Millisecond != 0:
		check.refuse("%s is %v: a time to live is a whole number of milliseconds", ttl, o.TTL)
	}
	if o.MinRetryBackoff > o.MaxRetryBackoff {
		check.refuse("%s (%v) is over %s (%v)", name("MinRetryBackoff", "min_retry_backoff"), o.MinRetryBackoff,
			name("MaxRetryBackoff", "max_retry_backoff"), o.MaxRetryBackoff)
	}
	if strings.ContainsAny(o.KeyPrefix, "{}") {
		check.refuse("%s %q has a brace in it: the braces in a name in Redis are for the key", name("KeyPrefix", "key_prefix"), o.KeyPrefix)
	}
	if o.KeyPrefix == "" {
		o.KeyPrefix = "rigatoni:"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, check.err
}

// A checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) refuse(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{state.ErrInvalid}, args...)...)
	}
}

func (c *checker) count(name string, v *int, least, most, zero int) {
	if *v == 0 {
		*v = zero
	}
	if *v < least || *v > most {
		c.refuse("%s is %d: it must be from %d to %d", name, *v, least, most)
	}
}

func (c *checker) duration(name string, v *time.Duration, most, zero time.Duration) {
	if *v == 0 {
		*v = zero
	}
	if *v < time.Millisecond || *v > most {
		c.refuse("%s is %v: it must be from 1ms to %v", name, *v, most)
	}
}
