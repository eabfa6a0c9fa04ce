package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// Options say where Redis is and how to use it. Nil *Options, and the zero value
// of each field, are the defaults.
//
// The fields that have a help tag can also be given as parameters of the URL, by
// their names in lower case with hyphens: redis://host/0?pool-size=4&ttl=168h.
// URL parameters override the corresponding fields. Where -1 disables something,
// a URL says "off".
//
// [Open] refuses a value that is out of range, with an error that names the field.
// Printed in any form, Options show no user and no password.
type Options struct {
	// Addrs, for an [Open] without a URL, are the addresses of Redis, host:port:
	// of the server; with MasterName of all Sentinels; with Cluster of some of the
	// nodes, from which the others are learned. The default port is 6379, and
	// 26379 for a Sentinel.
	Addrs []string

	// MasterName is the name under which the Sentinels at Addrs know the master.
	MasterName string

	// Cluster says that Addrs are nodes of a Redis Cluster.
	Cluster bool

	// Socket, instead of Addrs, is the path of a server's Unix socket.
	Socket string

	// DB is the number of the database. In a URL it is the path; only the URL of a
	// Unix socket has it as a parameter. A Redis Cluster has only 0; Valkey's may have
	// more.
	DB int `help:"number of the database, for a Unix socket" max:"65535"`

	// Username and Password are those of a Redis user (ACL). A password alone is
	// that of the user "default".
	Username, Password string

	// SentinelUsername and SentinelPassword are the credentials for the Sentinels,
	// which don't know the users of Redis. Username and Password are never sent to
	// a Sentinel.
	SentinelUsername string `help:"user for the Sentinels" secret:"true"`
	SentinelPassword string `help:"password for the Sentinels" secret:"true"`

	// TLS, if it is not nil, is used for every connection, to Sentinels too. A URL
	// then begins with rediss. If ServerName is "", it is the host of each
	// connection; if MinVersion is 0, it is TLS 1.2.
	TLS *tls.Config

	// TLSCAFile names a PEM file with the certificate authorities to trust, in
	// place of the system's.
	TLSCAFile string `help:"trust the certificate authorities in this PEM file" name:"tls-ca-file" arg:"FILE" kind:"path"`

	// TLSCertFile and TLSKeyFile name the PEM files of a client certificate and
	// its key.
	TLSCertFile string `help:"PEM file of the client certificate" arg:"FILE" kind:"path"`
	TLSKeyFile  string `help:"PEM file of the client certificate's key" arg:"FILE" kind:"path"`

	// TLSServerName is the name that the server's certificate must have. The
	// default is the host of each connection.
	TLSServerName string `help:"name that the server's certificate must have" arg:"NAME"`

	// PoolSize is the maximum number of connections; in a Cluster, to each node. A
	// call that finds all of them in use waits for one for up to ReadTimeout. The
	// default is 10.
	PoolSize int `help:"maximum number of connections, to each node" default:"10" min:"1" max:"10000"`

	// TTL is the time without a save, grant or renewal after which a checkpoint
	// expires, in whole milliseconds. By default, and with -1, it never does.
	TTL time.Duration `help:"let a checkpoint expire when it was not saved for this time" off:"never" min:"1ms"`

	// MaxRetries is the maximum number of retries of an operation, where a retry is
	// safe (see the package documentation). It applies to opening as well. The
	// default is 3; -1 means no retries.
	MaxRetries int `help:"maximum number of retries of an operation" default:"3" off:"no retries" min:"1" max:"100"`

	// MinRetryBackoff is the pause before the first retry. It doubles with each
	// retry up to MaxRetryBackoff, and up to half of it is left off at random. The
	// defaults are 8ms and 512ms.
	MinRetryBackoff time.Duration `help:"pause before the first retry" default:"8ms" min:"1ms" max:"1m"`
	MaxRetryBackoff time.Duration `help:"longest pause between retries" default:"512ms" min:"1ms" max:"1m"`

	// ConnectTimeout limits one attempt to connect, and [Open] as a whole. The
	// default is 5s.
	ConnectTimeout time.Duration `help:"limit for connecting" default:"5s" min:"1ms" max:"10m"`

	// ReadTimeout and WriteTimeout limit how long one attempt waits for an answer,
	// and for sending. With a server that has frozen, a call returns when its
	// context ends, and at the latest after MaxRetries+1 times ReadTimeout and the
	// pauses in between. The default is 3s.
	ReadTimeout  time.Duration `help:"limit for an answer" default:"3s" min:"1ms" max:"10m"`
	WriteTimeout time.Duration `help:"limit for sending a command" default:"3s" min:"1ms" max:"10m"`

	// WaitReplicas is the number of replicas that must have received what Save,
	// Acquire, Renew, Clear and their like wrote before these return nil (Redis's
	// WAIT). With fewer, the error is a [*ReplicationError], which is retryable: the
	// master has the write, and the replicas may yet get it.
	//
	// Replication is asynchronous: without WAIT, a failover may lose what was
	// acknowledged, even a first checkpoint. With it, that takes the loss of the
	// master and of every replica that had the write, or the election of a replica
	// that didn't. WAIT narrows what can be lost; it does not make Redis a store
	// that never loses anything. Each of these calls takes longer by the wait. By
	// default, and with -1, there is no wait.
	WaitReplicas int `help:"wait until this number of replicas has a write" off:"no wait" min:"1" max:"100"`

	// WaitTimeout limits the wait for the replicas, in addition to ReadTimeout. The
	// default is 1s.
	WaitTimeout time.Duration `help:"limit for the wait for replicas" default:"1s" min:"1ms" max:"1m"`

	// KeyPrefix begins the name of every key in Redis. Stores with different
	// prefixes don't see each other. It has no braces: in a name in Redis those
	// enclose the key. The default is "rigatoni:".
	KeyPrefix string `help:"prefix of every key in Redis" default:"rigatoni:" pattern:"[^{}]*" want:"a prefix without braces"`

	// Logger receives log output: retries, a new master that the Sentinels name,
	// and at opening a server configuration that may lose checkpoints. The default
	// is [slog.Default].
	Logger *slog.Logger

	// dial, if tests set it, is used instead of the system's dialer.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// complete fills in the defaults, and returns an ErrInvalid that names the field
// that is wrong. What is disabled becomes 0.
func (o Options) complete() (Options, error) {
	longest := o.MaxRetryBackoff
	if err := option.Complete("Options.", &o); err != nil {
		return o, fmt.Errorf("%w: %w", state.ErrInvalid, err)
	}
	if longest == 0 {
		o.MaxRetryBackoff = max(o.MaxRetryBackoff, o.MinRetryBackoff)
	}
	o.TTL, o.MaxRetries, o.WaitReplicas = max(o.TTL, 0), max(o.MaxRetries, 0), max(o.WaitReplicas, 0)
	switch {
	case o.TTL%time.Millisecond != 0:
		return o, fmt.Errorf("%w: Options.TTL is %v; it must be a whole number of milliseconds", state.ErrInvalid, o.TTL)
	case o.MinRetryBackoff > o.MaxRetryBackoff:
		return o, fmt.Errorf("%w: Options.MinRetryBackoff (%v) is longer than MaxRetryBackoff (%v)", state.ErrInvalid, o.MinRetryBackoff, o.MaxRetryBackoff)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// String returns what is set, without users and passwords.
func (o Options) String() string {
	var set []string
	add := func(name string, v any, isSet bool) {
		if isSet {
			set = append(set, fmt.Sprintf("%s:%v", name, v))
		}
	}
	hosts := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		hosts[i] = a[strings.LastIndexByte(a, '@')+1:] // a password there is refused, and not shown before
	}
	add("Addrs", hosts, o.Addrs != nil)
	add("MasterName", o.MasterName, o.MasterName != "")
	add("Cluster", o.Cluster, o.Cluster)
	add("Socket", o.Socket, o.Socket != "")
	add("TLS", true, o.TLS != nil)
	for _, opt := range option.Of(&o) {
		if text := opt.Text(&o); text != nil && !opt.Secret {
			add(opt.Field, text[0], true)
		}
	}
	return "redisstore.Options{" + strings.Join(set, " ") + "}"
}

// Format prints String for every verb.
func (o Options) Format(f fmt.State, _ rune) { fmt.Fprint(f, o.String()) }

// LogValue is String, for log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }
