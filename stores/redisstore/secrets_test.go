package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore/rustcrate"
)

// chain is every error in err's chain, and how each prints in every form.
func chain(err error) string {
	if err == nil {
		return ""
	}
	text := fmt.Sprintf("%v\n%+v\n%#v\n%s\n%q\n", err, err, err, err, err) + logged(err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		text += chain(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			text += chain(one)
		}
	}
	return text
}

// Whatever goes wrong, on every topology, neither a password nor a token is in an
// error, in a log, or in what is printed of any type.
func TestNoSecrets(t *testing.T) {
	var log sharedlog.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	const token = "53CRET70KEN"
	check := func(what, text string) {
		t.Helper()
		for _, s := range []string{secret[:5], token, "wrongpw9"} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %s:\n%s", what, s, text)
			}
		}
	}
	o := redisserver.Options{Password: secret}
	plain := redisserver.Start(t, &redisserver.Options{Password: secret, Socket: true})
	sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Options: o, Sentinels: 1, SentinelPassword: secret + "2"})
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: o, Replicas: -1})
	urls := []string{
		plain.URL(), "unix://:" + secret + "@" + plain.Socket, cluster.URL(),
		sentinel.URL() + "?sentinel-password=" + secret + "2",
	}
	opts := redisstore.Options{Logger: logger, ConnectTimeout: 500 * time.Millisecond, ReadTimeout: 300 * time.Millisecond, MaxRetries: 1}

	var stores []*redisstore.Store
	for _, u := range urls {
		s := open(t, u, opts)
		stores = append(stores, s)
		check("a store", fmt.Sprintf("%v %+v %#v %s %d %q %x", s, s, s, s, s, s, s)+logged(s))
		for _, bad := range []string{strings.Replace(u, secret, "wrongpw9", 1), strings.Replace(u, ":"+secret+"@", "bob:wrongpw9@", 1), u + map[bool]string{true: "&", false: "?"}[strings.Contains(u, "?")] + "sentinel-password=wrongpw9"} {
			_, err := redisstore.Open(t.Context(), bad, &opts)
			check("opening", chain(err))
		}
		want(t, s.Save(t.Context(), "k", checkpoint(t, token, 5)), nil, "Save")
		for name, err := range failures(t, s, token) {
			check(name, chain(err))
		}
	}
	for _, server := range append(append(sentinel.All(), cluster.Nodes...), plain) {
		want(t, server.Kill(), nil, "Kill")
	}
	for i, s := range stores {
		if i == 3 {
			eventually(t, "the follower's word", func() bool { return strings.Contains(log.String(), "no Sentinel") })
		}
		for name, err := range failures(t, s, token) {
			check(name, chain(err))
		}
		_, err := redisstore.Open(t.Context(), urls[i], &opts)
		want(t, err, state.ErrUnavailable, "Open of what is gone")
		check("opening", chain(err))
		want(t, s.Close(), nil, "Close")
		check("after Close", chain(s.Ping(t.Context())))
	}
	if log.String() == "" {
		t.Error("nothing was logged")
	}
	check("the log", log.String())
	check("the options", printed(redisstore.Options{
		Addrs: []string{"u:" + secret + "@h"}, Username: secret, Password: secret, SentinelUsername: secret, SentinelPassword: secret,
		TLS: &tls.Config{ServerName: "x"}, TLSKeyFile: "/x", Logger: logger,
	}))
}

// failures are the errors of every method.
func failures(t *testing.T, s *redisstore.Store, token string) map[string]error {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	f := state.Fence{Epoch: 3, Nonce: "n"}
	errs := map[string]error{
		"Save":        s.Save(ctx, "k", checkpoint(t, token, 1)),
		"SaveFenced":  s.SaveFenced(ctx, "k", f, checkpoint(t, token, 1)),
		"ClearFenced": s.ClearFenced(ctx, "k", f),
		"Renew":       s.Renew(ctx, "k", f, time.Hour),
		"Ping":        s.Ping(ctx),
		"invalid":     s.Save(ctx, "", checkpoint(t, token, 1)),
	}
	_, errs["Load"] = s.Load(ctx, "never")
	_, errs["Acquire"] = s.Acquire(ctx, "k", state.LeaseRequest{})
	_, errs["rustcrate.Load"] = rustcrate.Load(ctx, s, "never")
	_, errs["rustcrate.Names"] = rustcrate.Names(ctx, s)
	for e, err := range s.List(ctx, "") {
		errs["List"] = errors.Join(err, e.LoadErr)
	}
	return errs
}

func printed(o redisstore.Options) string {
	return fmt.Sprintf("%v %+v %#v %s %d %q %v %+v %#v %v", o, o, o, o, o, o, &o, &o, &o, []redisstore.Options{o}) + logged(o) + logged(&o)
}

// Each field that may be secret is set to a secret and not seen, and each field that
// is not is seen: a field that is added later has to be thought of.
func TestOptionsPrint(t *testing.T) {
	hidden := map[string]bool{"Username": true, "Password": true, "SentinelUsername": true, "SentinelPassword": true, "Logger": true}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[redisstore.Options]()) {
		o := redisstore.Options{}
		if !f.IsExported() {
			continue
		}
		v := reflect.ValueOf(&o).Elem().FieldByIndex(f.Index)
		switch v.Interface().(type) {
		case string:
			v.SetString(secret)
		case []string:
			v.Set(reflect.ValueOf([]string{"host9"}))
		case int, time.Duration:
			v.SetInt(7)
		case bool:
			v.SetBool(true)
		case *tls.Config:
			v.Set(reflect.ValueOf(&tls.Config{ServerName: secret}))
		case *slog.Logger:
			v.Set(reflect.ValueOf(quiet))
		default:
			t.Fatalf("the field %s has a type that this test doesn't know", f.Name)
		}
		text, empty := fmt.Sprintf("%+v", o), fmt.Sprintf("%+v", redisstore.Options{})
		if hidden[f.Name] && text != empty {
			t.Errorf("%s is seen: %s", f.Name, o)
		}
		if !hidden[f.Name] && text == empty {
			t.Errorf("%s is not seen", f.Name)
		}
	}
}

// What the lent client knows isn't shown either.
func TestNoSecretsOfALentClient(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Password: secret})
	c := client(t, server)
	s, err := redisstore.FromClient(t.Context(), c, &redisstore.Options{Logger: quiet})
	want(t, err, nil, "FromClient")
	noSecret(t, fmt.Sprintf("%v %+v %#v", s, s, s)+logged(s))
	u := url.URL{Scheme: "redis", User: url.UserPassword("bob", secret+"x"), Host: server.Addr}
	r, err := redis.ParseURL(u.String())
	want(t, err, nil, "ParseURL")
	bad := redis.NewClient(r)
	defer bad.Close()
	_, err = redisstore.FromClient(t.Context(), bad, nil)
	want(t, err, state.ErrRefused, "FromClient")
	noSecret(t, chain(err))
}
