package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// Options say where Redis is and how to use it. The zero value of each field is
// its default; nil *Options are all defaults. What a URL says goes before the
// field of the same meaning. Most fields can be given in the URL as well, under
// the name in brackets: redis://host/0?pool_size=4&ttl=168h. There a duration has
// its unit (500ms, 168h), and 0 means none.
//
// What is out of range is refused by [Open], with a sentence that names it.
// Printed in any form, Options show no user and no password.
type Options struct {
	// Addrs, for an [Open] without a URL, is where Redis is: host:port of the
	// server; with MasterName of the Sentinels, all of them; with Cluster of some of
	// its nodes, from which the others are learned. Without the port: 6379, and
	// 26379 for a Sentinel.
	Addrs []string

	// MasterName is the name under which the Sentinels at Addrs know the master.
	MasterName string

	// Cluster says that Addrs are nodes of a Redis Cluster.
	Cluster bool

	// Socket, in place of Addrs, is the path of a server's Unix socket.
	Socket string

	// DB [db, for a Unix socket] is the number of the database. A Cluster has only 0.
	DB int

	// Username and Password are those of a user of Redis (ACL); a password alone
	// is that of the user "default".
	Username, Password string

	// SentinelUsername and SentinelPassword [sentinel_username,
	// sentinel_password] are for the Sentinels, which know nothing of the users of
	// Redis. "": none, whatever Username and Password are.
	SentinelUsername, SentinelPassword string

	// TLS, if it is not nil, is used for every connection, to Sentinels too: a
	// URL then begins with rediss. Its ServerName, if it is "", is the host of each
	// connection; MinVersion, if it is 0, is TLS 1.2.
	TLS *tls.Config

	// TLSCAFile [tls_ca_file] names a PEM file with the certificate authorities to
	// trust, in place of the system's.
	TLSCAFile string

	// TLSCertFile and TLSKeyFile [tls_cert_file, tls_key_file] name the PEM files of
	// a certificate, and its key, to show to a server that asks for one.
	TLSCertFile, TLSKeyFile string

	// TLSServerName [tls_server_name] is the name to expect in the server's
	// certificate. "": the host of each connection.
	TLSServerName string

	// PoolSize [pool_size] is the greatest number of connections; in a Cluster, to
	// each node. Calls beyond them wait for a free one, at most for ReadTimeout.
	// 0: 10. At most 10,000.
	PoolSize int

	// TTL [ttl] is after how long without a save, grant or renewal a
	// checkpoint expires, exact to the millisecond; whole milliseconds. 0: never.
	TTL time.Duration

	// MaxRetries [max_retries] is how often an operation is repeated after its
	// first attempt failed, where that is safe (see the package doc).
	// 0: 3; -1: never. At most 100. Opening is repeated as well.
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
	// one attempt waits for Redis to answer, and to take what is sent. From a
	// server that has frozen, a call returns when its context ends, and at the
	// latest after MaxRetries+1 times ReadTimeout, and the waits in between.
	// 0: 3 s. At most 10 minutes.
	ReadTimeout, WriteTimeout time.Duration

	// WaitReplicas [wait_replicas] is how many replicas must have received what
	// Save, Acquire, Renew and Clear (and their like) wrote before these return
	// nil, by Redis's WAIT. With fewer, the error is a [*ReplicationError], which is
	// retryable: the master has it, the replicas may yet get it.
	//
	// Replication is asynchronous: without it, a failover may lose what was
	// acknowledged, a first checkpoint too, and a lease. With it that takes the loss
	// of the master and of every replica that had it, or the election of a
	// replica that did not. WAIT narrows what can be lost; it does not make Redis a
	// store that never loses anything. Each of those calls waits for the
	// replicas' answer, and so takes longer. 0: no waiting. At most 100.
	WaitReplicas int

	// WaitTimeout [wait_timeout] is how long to wait for those replicas, added to
	// ReadTimeout. 0: 1 s. At most a minute.
	WaitTimeout time.Duration

	// KeyPrefix [key_prefix] begins the name of every key in Redis. Stores with
	// different prefixes don't see each other. Without braces. "": "rigatoni:".
	KeyPrefix string

	// Logger is told of repeated attempts, of a new master that the Sentinels name,
	// and at opening of a configuration that may lose checkpoints.
	// nil: slog.Default().
	Logger *slog.Logger

	// dial, where tests set it, takes the place of the system's.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

const (
	maxPoolSize = 10_000
	maxRetries  = 100
	maxBackoff  = time.Minute
	maxTimeout  = 10 * time.Minute
	maxReplicas = 100
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
	check.duration(name("WaitTimeout", "wait_timeout"), &o.WaitTimeout, time.Minute, time.Second)
	if o.WaitReplicas < 0 || o.WaitReplicas > maxReplicas {
		check.refuse("%s is %d: it must be from 0 to %d", name("WaitReplicas", "wait_replicas"), o.WaitReplicas, maxReplicas)
	}
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

// String tells what is set, without user and password.
func (o Options) String() string {
	var b strings.Builder
	b.WriteString("redisstore.Options{")
	add := func(name string, v any, set bool) {
		if !set {
			return
		}
		if b.Len() > len("redisstore.Options{") {
			b.WriteString(" ")
		}
		fmt.Fprintf(&b, "%s:%v", name, v)
	}
	hosts := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		hosts[i] = a[strings.LastIndexByte(a, '@')+1:] // a password there is refused, and not shown before
	}
	add("Addrs", hosts, o.Addrs != nil)
	add("MasterName", o.MasterName, o.MasterName != "")
	add("Cluster", o.Cluster, o.Cluster)
	add("Socket", o.Socket, o.Socket != "")
	add("DB", o.DB, o.DB != 0)
	add("TLS", true, o.wantsTLS())
	add("PoolSize", o.PoolSize, o.PoolSize != 0)
	add("TTL", o.TTL, o.TTL != 0)
	add("MaxRetries", o.MaxRetries, o.MaxRetries != 0)
	add("MinRetryBackoff", o.MinRetryBackoff, o.MinRetryBackoff != 0)
	add("MaxRetryBackoff", o.MaxRetryBackoff, o.MaxRetryBackoff != 0)
	add("ConnectTimeout", o.ConnectTimeout, o.ConnectTimeout != 0)
	add("ReadTimeout", o.ReadTimeout, o.ReadTimeout != 0)
	add("WriteTimeout", o.WriteTimeout, o.WriteTimeout != 0)
	add("WaitReplicas", o.WaitReplicas, o.WaitReplicas != 0)
	add("WaitTimeout", o.WaitTimeout, o.WaitTimeout != 0)
	add("KeyPrefix", o.KeyPrefix, o.KeyPrefix != "")
	return b.String() + "}"
}

// Format prints String for every verb.
func (o Options) Format(f fmt.State, _ rune) { fmt.Fprint(f, o.String()) }

// LogValue is String, for log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }
