package redisstore

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// parseURL is url.Parse for URLs with several hosts, too, some of which that
// refuses. The hosts are in URL.Host, with commas between them. Its error shows no
// part of the URL.
func parseURL(raw string) (*url.URL, error) {
	one, hosts := cutHosts(raw)
	u, err := url.Parse(one)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL is invalid; in a user or password, write everything except letters and digits as %%XX "+
			"(@ as %%40, / as %%2F, # as %%23, ? as %%3F, %% as %%25)", state.ErrInvalid)
	}
	if hosts != "" {
		u.Host = hosts
	}
	return u, nil
}

// cutHosts replaces a URL's hosts by one name, if there are several.
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

// A scheme is the meaning of a URL's scheme.
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

func schemeNames() []string { return slices.Sorted(maps.Keys(schemes)) }

// from returns o with everything in u but its parameters. Its errors show no part of
// the URL except the scheme: without proper %XX, a part of the password can be
// anywhere behind it.
func (o Options) from(u *url.URL) (Options, error) {
	sch, known := schemes[u.Scheme]
	switch {
	case !known:
		return o, fmt.Errorf("%w: the URL's scheme must be one of %s", state.ErrInvalid, strings.Join(schemeNames(), ", "))
	case u.Opaque != "":
		return o, fmt.Errorf("%w: the URL has no host; write %s://host:port", state.ErrInvalid, u.Scheme)
	case u.Fragment != "":
		return o, fmt.Errorf("%w: the URL has a #; in a password write it as %%23", state.ErrInvalid)
	case sch.tls && o.TLS == nil:
		o.TLS = &tls.Config{}
	case !sch.tls && o.TLS != nil:
		return o, fmt.Errorf("%w: TLS is set, and the URL's scheme, %s, has no TLS", state.ErrInvalid, u.Scheme)
	}
	o.Addrs, o.Socket, o.MasterName, o.Cluster = nil, "", "", sch.kind == clusterServers
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if o.Username != "" && o.Password == "" {
		return o, fmt.Errorf("%w: the URL has a user and no password; for a password without a user write %s://:password@host", state.ErrInvalid, u.Scheme)
	}
	if sch.kind == socketServer {
		if u.Host != "" || strings.Trim(u.Path, "/") == "" {
			return o, fmt.Errorf("%w: the URL has no path of a socket; write %s:///path/to/redis.sock", state.ErrInvalid, u.Scheme)
		}
		o.Socket = u.Path
		return o, nil
	}
	if u.Host == "" {
		return o, fmt.Errorf("%w: the URL has no host; write %s://host:port", state.ErrInvalid, u.Scheme)
	}
	o.Addrs = strings.Split(u.Host, ",")
	if _, err := o.addrs(); err != nil {
		return o, fmt.Errorf("%w: a host in the URL is missing or invalid, or its port is not from 1 to 65535", state.ErrInvalid)
	}
	return o, o.path(u, sch.kind)
}

// path parses the path of a URL: the master's name, the database.
func (o *Options) path(u *url.URL, kind kindOfServer) error {
	path := strings.Trim(u.Path, "/")
	if kind == sentinelServers {
		o.MasterName, path, _ = strings.Cut(path, "/")
		if o.MasterName == "" {
			return fmt.Errorf("%w: the URL does not name the master; write %s://host:port/mymaster/0", state.ErrInvalid, u.Scheme)
		}
	}
	if path == "" {
		return nil
	}
	db, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: the URL's path must be the number of a database, such as /0", state.ErrInvalid)
	}
	o.DB = int(db)
	return nil
}

// apply sets the options that are parameters of the URL.
func (o Options) apply(u *url.URL) (Options, error) {
	query, err := url.ParseQuery(u.RawQuery)
	// A password with an unescaped ? has its end here.
	switch {
	case err != nil || strings.Contains(u.RawQuery, "@"):
		return o, fmt.Errorf("%w: the URL's parameters are invalid; write @ as %%40, and ? in a password as %%3F", state.ErrInvalid)
	case query.Has("db") && o.Socket == "":
		return o, fmt.Errorf("%w: the URL has the parameter db, which is for Unix sockets; write the database as the path", state.ErrInvalid)
	}
	if err := option.FromQuery(&o, query); err != nil {
		return o, fmt.Errorf("%w: %w", state.ErrInvalid, err)
	}
	return o, nil
}
