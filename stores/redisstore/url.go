package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// ParseURL is [url.Parse] for the URLs of [Open], which may have several hosts:
// that of net/url refuses some of those. The hosts stand in URL.Host, with commas
// between them. Its error shows no part of the URL.
func ParseURL(raw string) (*url.URL, error) {
	one, hosts := cutHosts(raw)
	u, err := url.Parse(one)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL can't be read; in a user or password, write what is no letter or digit as %%XX "+
			"(@ as %%40, / as %%2F, # as %%23, ? as %%3F, %% as %%25)", state.ErrInvalid)
	}
	if hosts != "" {
		u.Host = hosts
	}
	return u, nil
}

// cutHosts puts one name in the place of a URL's hosts, if there are several.
func cutHosts(raw string) (one, hosts string) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw, ""
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	if hosts = rest[begin:end]; !strings.Contains(hosts, ",") {
		return raw, ""
	}
	return scheme + "://" + rest[:begin] + "hosts" + rest[end:], hosts
}

// A scheme is what a URL's scheme says.
type scheme struct {
	tls  bool
	kind kindOfServer
}

type kindOfServer int

const (
	plainServer kindOfServer = iota
	sentinelServers
	clusterServers
	socketServer
)

var schemes = map[string]scheme{
	"redis":           {},
	"rediss":          {tls: true},
	"redis+sentinel":  {kind: sentinelServers},
	"rediss+sentinel": {kind: sentinelServers, tls: true},
	"redis+cluster":   {kind: clusterServers},
	"rediss+cluster":  {kind: clusterServers, tls: true},
	"unix":            {kind: socketServer},
	"redis+unix":      {kind: socketServer},
}

// Schemes are the schemes of the URLs that [Open] takes.
func Schemes() []string { return slices.Sorted(maps.Keys(schemes)) }

// from puts what u says before its parameters into o. No part of the URL is in
// the errors but the scheme: in a URL that lacks some %XX, a piece of the password
// can stand anywhere behind.
func (o Options) from(u *url.URL) (Options, error) {
	sch, known := schemes[u.Scheme]
	switch {
	case !known:
		return o, fmt.Errorf("%w: the URL's scheme is none of %s", state.ErrInvalid, strings.Join(Schemes(), ", "))
	case u.Opaque != "":
		return o, fmt.Errorf("%w: the URL names no host: write %s:// before it", state.ErrInvalid, u.Scheme)
	case u.Fragment != "":
		return o, fmt.Errorf("%w: the URL has a #; in a password, write it as %%23", state.ErrInvalid)
	case sch.tls && o.TLS == nil:
		o.TLS = &tls.Config{}
	case !sch.tls && o.TLS != nil:
		return o, fmt.Errorf("%w: TLS is set, and the URL's scheme %s is without TLS", state.ErrInvalid, u.Scheme)
	}
	o.Addrs, o.Socket, o.MasterName, o.Cluster = nil, "", "", sch.kind == clusterServers
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if o.Username != "" && o.Password == "" {
		return o, fmt.Errorf("%w: the URL has a user and no password; for a password alone write %s://:password@host", state.ErrInvalid, u.Scheme)
	}
	if sch.kind == socketServer {
		if u.Host != "" || strings.Trim(u.Path, "/") == "" {
			return o, fmt.Errorf("%w: the URL has no path of a socket: write %s:///path/to/redis.sock", state.ErrInvalid, u.Scheme)
		}
		o.Socket = u.Path
		return o, nil
	}
	if u.Host == "" {
		return o, fmt.Errorf("%w: the URL names no host: write %s://host:port", state.ErrInvalid, u.Scheme)
	}
	o.Addrs = strings.Split(u.Host, ",")
	if _, err := o.addrs(); err != nil {
		return o, fmt.Errorf("%w: the URL's port is not from 1 to 65535, or a host is missing or not one", state.ErrInvalid)
	}
	return o, o.path(u, sch.kind)
}

// path reads the path of a URL: the master's name, the database.
func (o *Options) path(u *url.URL, kind kindOfServer) error {
	path := strings.Trim(u.Path, "/")
	if kind == sentinelServers {
		o.MasterName, path, _ = strings.Cut(path, "/")
		if o.MasterName == "" {
			return fmt.Errorf("%w: the URL does not name the master: write %s://host:port/mymaster/0", state.ErrInvalid, u.Scheme)
		}
	}
	if path == "" {
		return nil
	}
	db, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: the URL's path is not the number of a database, such as /0", state.ErrInvalid)
	}
	o.DB = int(db)
	return nil
}

// parameters set what they name in Options.
var parameters = map[string]func(*Options, string) error{
	"pool_size":          func(o *Options, v string) error { return setCount(&o.PoolSize, v) },
	"max_retries":        setRetries,
	"ttl":                func(o *Options, v string) error { return setDuration(&o.TTL, v, true) },
	"min_retry_backoff":  func(o *Options, v string) error { return setDuration(&o.MinRetryBackoff, v, false) },
	"max_retry_backoff":  func(o *Options, v string) error { return setDuration(&o.MaxRetryBackoff, v, false) },
	"connection_timeout": func(o *Options, v string) error { return setDuration(&o.ConnectTimeout, v, false) },
	"read_timeout":       func(o *Options, v string) error { return setDuration(&o.ReadTimeout, v, false) },
	"write_timeout":      func(o *Options, v string) error { return setDuration(&o.WriteTimeout, v, false) },
	"wait_replicas":      setReplicas,
	"wait_timeout":       func(o *Options, v string) error { return setDuration(&o.WaitTimeout, v, false) },
	"key_prefix":         func(o *Options, v string) error { return setText(&o.KeyPrefix, v) },
	"db":                 setDB,
	"sentinel_username":  func(o *Options, v string) error { return setText(&o.SentinelUsername, v) },
	"sentinel_password":  func(o *Options, v string) error { return setText(&o.SentinelPassword, v) },
	"tls_ca_file":        func(o *Options, v string) error { return setText(&o.TLSCAFile, v) },
	"tls_cert_file":      func(o *Options, v string) error { return setText(&o.TLSCertFile, v) },
	"tls_key_file":       func(o *Options, v string) error { return setText(&o.TLSKeyFile, v) },
	"tls_server_name":    func(o *Options, v string) error { return setText(&o.TLSServerName, v) },
}

// apply puts the URL's parameters over o, and tells which there were.
func (o Options) apply(u *url.URL) (Options, map[string]bool, error) {
	query, err := url.ParseQuery(u.RawQuery)
	// A password with an unescaped ? has its end here.
	if err != nil || strings.Contains(u.RawQuery, "@") {
		return o, nil, fmt.Errorf("%w: the URL's parameters can't be read; write @ as %%40, and ? in a password as %%3F", state.ErrInvalid)
	}
	given := make(map[string]bool, len(query))
	for name, values := range query {
		set, known := parameters[name]
		switch {
		case !known:
			return o, nil, fmt.Errorf("%w: the URL has the unknown parameter %q; there are %s", state.ErrInvalid, name, strings.Join(parameterNames(), ", "))
		case len(values) != 1:
			return o, nil, fmt.Errorf("%w: the URL has the parameter %s more than once", state.ErrInvalid, name)
		}
		if name == "db" && o.Socket == "" {
			return o, nil, fmt.Errorf("%w: the URL has the parameter db, which is for Unix sockets; write the database into the path", state.ErrInvalid)
		}
		if err := set(&o, values[0]); err != nil {
			return o, nil, fmt.Errorf("%w: the URL's parameter %s%s: %w", state.ErrInvalid, name, shown(name, values[0]), err)
		}
		given[name] = true
	}
	return o, given, nil
}

func parameterNames() []string { return slices.Sorted(maps.Keys(parameters)) }

// shown is what an error shows of a parameter's value.
func shown(name, value string) string {
	if strings.HasPrefix(name, "sentinel_") {
		return ""
	}
	return fmt.Sprintf(" is %q", value)
}

func setCount(n *int, v string) error {
	i, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return errors.New("it must be a whole number")
	case i == 0:
		return errors.New("it must be at least 1")
	}
	*n = i
	return nil
}

// setRetries takes 0 for none, as the word says; in Options that is the default.
func setRetries(o *Options, v string) error {
	if v == "0" {
		o.MaxRetries = -1
		return nil
	}
	return setCount(&o.MaxRetries, v)
}

func setDuration(d *time.Duration, v string, zero bool) error {
	t, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return errors.New("it must be a duration with its unit, such as 500ms, 5s or 168h")
	case t == 0 && !zero:
		return errors.New("it must be at least 1ms")
	}
	*d = t
	return nil
}

func setText(s *string, v string) error {
	if v == "" {
		return errors.New("it must not be empty")
	}
	*s = v
	return nil
}

func setDB(o *Options, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return errors.New("it must be the number of a database")
	}
	o.DB = int(n)
	return nil
}

func setReplicas(o *Options, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return errors.New("it must be a whole number")
	}
	o.WaitReplicas = int(n)
	return nil
}
