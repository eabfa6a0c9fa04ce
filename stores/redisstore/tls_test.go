package redisstore_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// The system's certificate authorities are read once in a process, so that the
// part that trusts the test's own is another process.
func TestSystemRoots(t *testing.T) {
	if u := os.Getenv("REDISSTORE_TLS_URL"); u != "" {
		s := open(t, u, redisstore.Options{})
		want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
		return
	}
	pki := redisserver.TestPKI(t)
	server := redisserver.Start(t, &redisserver.Options{TLS: pki})
	_, err := redisstore.Open(t.Context(), server.URL(), nil)
	want(t, err, state.ErrRefused, "a certificate that nobody vouches for")
	_, err = redisstore.Open(t.Context(), "redis://"+server.Addr, &redisstore.Options{ConnectTimeout: 500 * time.Millisecond})
	want(t, err, state.ErrUnavailable, "no TLS to a server that speaks it")

	cmd := exec.Command(os.Args[0], "-test.run=^TestSystemRoots$", "-test.v")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+pki.CAFile, "REDISSTORE_TLS_URL="+server.URL())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n, err := server.Do(t.Context(), "EXISTS", "rigatoni:{k}"); err != nil || n != int64(1) {
		t.Errorf("nothing was saved over TLS: %v, %v", n, err)
	}
}

func TestTLSOptions(t *testing.T) {
	pki, other := redisserver.TestPKI(t), redisserver.TestPKI(t)
	config, err := pki.Client()
	want(t, err, nil, "Client")
	server := redisserver.Start(t, &redisserver.Options{TLS: pki})
	strict := redisserver.Start(t, &redisserver.Options{TLS: pki, Config: []string{"tls-auth-clients yes"}})
	plain := redisserver.Start(t, nil)
	cert := fmt.Sprintf("&tls-cert-file=%s&tls-key-file=%s", pki.ClientCert, pki.ClientKey)
	bad := filepath.Join(t.TempDir(), "bad.pem")
	want(t, os.WriteFile(bad, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600), nil, "WriteFile")
	for _, c := range []struct {
		what string
		url  string
		o    redisstore.Options
		err  error
		says string
	}{
		{what: "own CA", url: server.URL() + "?tls-ca-file=" + pki.CAFile},
		{what: "own CA, in a field", url: server.URL(), o: redisstore.Options{TLSCAFile: pki.CAFile}},
		{what: "own CA, in a config", url: server.URL(), o: redisstore.Options{TLS: &tls.Config{RootCAs: config.RootCAs}}},
		{what: "without a URL", o: redisstore.Options{Addrs: []string{server.Addr}, TLSCAFile: pki.CAFile}},
		{what: "another's CA", url: server.URL() + "?tls-ca-file=" + other.CAFile, err: state.ErrRefused, says: "certificate"},
		{what: "two CAs", url: server.URL() + "?tls-ca-file=" + pki.CAFile, o: redisstore.Options{TLS: config}, err: state.ErrInvalid, says: "both TLSCAFile"},
		{what: "a CA that is missing", url: server.URL() + "?tls-ca-file=/none.pem", err: state.ErrInvalid, says: "no such file"},
		{what: "a CA that is none", url: server.URL() + "?tls-ca-file=" + bad, err: state.ErrInvalid, says: "PEM form"},
		{what: "the name in the certificate", url: server.URL() + "?tls-server-name=" + redisserver.ServerName + "&tls-ca-file=" + pki.CAFile},
		{what: "a name that isn't in it", url: server.URL() + "?tls-server-name=elsewhere.test&tls-ca-file=" + pki.CAFile, err: state.ErrRefused, says: "elsewhere.test"},
		{what: "the same, in a config", url: server.URL(), o: redisstore.Options{TLS: &tls.Config{RootCAs: config.RootCAs, ServerName: "elsewhere.test"}}, err: state.ErrRefused, says: "elsewhere.test"},
		{what: "a client certificate", url: strict.URL() + "?tls-ca-file=" + pki.CAFile + cert},
		{what: "a client certificate, in a config", url: strict.URL(), o: redisstore.Options{TLS: config}},
		{what: "a key that is another's", url: server.URL(), o: redisstore.Options{TLSCertFile: pki.ClientCert, TLSKeyFile: other.ClientKey},
			err: state.ErrInvalid, says: "does not match"},
		{what: "a certificate that is missing", url: server.URL(), o: redisstore.Options{TLSCertFile: "/none.pem", TLSKeyFile: pki.ClientKey},
			err: state.ErrInvalid, says: "no such file"},
		{what: "TLS to a server without", url: strings.Replace(plain.URL(), "redis:", "rediss:", 1), err: state.ErrUnavailable, says: "TLS"},
	} {
		o := c.o
		o.Logger, o.ConnectTimeout = quiet, 2*time.Second
		s, err := redisstore.Open(t.Context(), c.url, &o)
		want(t, err, c.err, c.what)
		noSecret(t, fmt.Sprintf("%v %+v %#v", err, err, o))
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v does not say %q", c.what, err, c.says)
		}
		if err == nil {
			want(t, errors.Join(s.Save(t.Context(), c.what, checkpoint(t, "82AA", 1)), s.Close()), nil, c.what)
		}
	}
}

// In TLS 1.3 a server that does not like the client's certificate says so after the
// client may have begun to speak, and then the answer may be lost.
func TestClientCertificateRefused(t *testing.T) {
	pki, other := redisserver.TestPKI(t), redisserver.TestPKI(t)
	server := redisserver.Start(t, &redisserver.Options{TLS: pki, Config: []string{"tls-auth-clients yes"}})
	for what, o := range map[string]redisstore.Options{
		"none": {}, "another's": {TLSCertFile: other.ClientCert, TLSKeyFile: other.ClientKey},
	} {
		o.TLSCAFile, o.Logger = pki.CAFile, quiet
		_, err := redisstore.Open(t.Context(), server.URL(), &o)
		if !errors.Is(err, state.ErrRefused) && !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		config, cerr := pki.Client()
		want(t, cerr, nil, "Client")
		config.MaxVersion = tls.VersionTLS12 // here the handshake waits for it
		if config.Certificates = nil; o.TLSCertFile != "" {
			cert, cerr := tls.LoadX509KeyPair(other.ClientCert, other.ClientKey)
			want(t, cerr, nil, "LoadX509KeyPair")
			config.Certificates = []tls.Certificate{cert}
		}
		_, err = redisstore.Open(t.Context(), server.URL(), &redisstore.Options{TLS: config, Logger: quiet})
		want(t, err, state.ErrRefused, what)
	}
}

// Each connection is TLS: to Sentinels, to the nodes of a Cluster.
func TestTLSTopologies(t *testing.T) {
	pki := redisserver.TestPKI(t)
	o := redisserver.Options{TLS: pki, Password: secret}
	sentinel := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Options: o, Sentinels: 1})
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Options: o, Replicas: -1})
	for _, u := range []string{sentinel.URL(), cluster.URL()} {
		work(t.Context(), t, open(t, u+"?tls-ca-file="+pki.CAFile, redisstore.Options{}))
		_, err := redisstore.Open(t.Context(), u, nil)
		want(t, err, state.ErrRefused, "a certificate that nobody vouches for")
	}
}
