package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// parseURL is url.Parse, but for its error, which shows the password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL can't be read; in a user or password, write what is no letter or digit as %%XX "+
			"(@ as %%40, / as %%2F, # as %%23, ? as %%3F, %% as %%25)", state.ErrInvalid)
	}
	return u, nil
}

// target is where a URL leads. No part of the URL is in its errors but the
// scheme and the parameters: in a URL that lacks some %XX, a piece of the
// password can stand anywhere behind.
func target(u *url.URL) (*redis.Options, error) {
	r := &redis.Options{}
	switch u.Scheme {
	case "redis":
	case "rediss":
		r.TLSConfig = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	default:
		return nil, fmt.Errorf("%w: the URL's scheme is neither redis nor rediss", state.ErrInvalid)
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	switch n, err := strconv.ParseUint(port, 10, 16); {
	case u.Opaque != "" || u.Hostname() == "":
		return nil, fmt.Errorf("%w: the URL names no host: write %s://host:port/database", state.ErrInvalid, u.Scheme)
	case err != nil || n == 0:
		return nil, fmt.Errorf("%w: the URL's port is not from 1 to 65535", state.ErrInvalid)
	case u.Fragment != "":
		return nil, fmt.Errorf("%w: the URL has a #; in a password, write it as %%23", state.ErrInvalid)
	}
	r.Addr = net.JoinHostPort(u.Hostname(), port)
	if path := strings.Trim(u.Path, "/"); path != "" {
		db, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%w: the URL's path is not the number of a database, such as /0", state.ErrInvalid)
		}
		r.DB = int(db)
	}
	r.Username = u.User.Username()
	r.Password, _ = u.User.Password()
	if r.Username != "" && r.Password == "" {
		return nil, fmt.Errorf("%w: the URL has a user and no password; for a password alone write %s://:password@host", state.ErrInvalid, u.Scheme)
	}
	return r, nil
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
	"key_prefix":         setPrefix,
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
		if err := set(&o, values[0]); err != nil {
			return o, nil, fmt.Errorf("%w: the URL's parameter %s is %q: %w", state.ErrInvalid, name, values[0], err)
		}
		given[name] = true
	}
	return o, given, nil
}

func parameterNames() []string {
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
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

func setPrefix(o *Options, v string) error {
	if v == "" {
		return errors.New("it must not be empty")
	}
	o.KeyPrefix = v
	return nil
}
