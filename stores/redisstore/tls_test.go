package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// The system's certificate authorities are read once in a process, so that the
// part that trusts the test's own is another process.
func TestTLS(t *testing.T) {
	if u := os.Getenv("REDISSTORE_TLS_URL"); u != "" {
		s := open(t, u, redisstore.Options{})
		want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
		return
	}
	server := redisserver.Start(t, nil)
	cert, certPEM := certificate(t)
	addr := tlsFront(t, server.Addr, cert)
	_, err := redisstore.Open(t.Context(), "rediss://"+addr, nil)
	want(t, err, state.ErrRefused, "a certificate that nobody vouches for")
	_, err = redisstore.Open(t.Context(), "redis://"+addr, &redisstore.Options{ConnectTimeout: 500 * time.Millisecond})
	want(t, err, state.ErrUnavailable, "no TLS to a server that speaks it")

	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTLS$", "-test.v")
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+file, "REDISSTORE_TLS_URL=rediss://"+addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := client(t, server).Exists(t.Context(), "rigatoni:{k}:cp").Val(); n != 1 {
		t.Error("nothing was saved over TLS")
	}
}

func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// tlsFront puts TLS before a server that has none.
func tlsFront(t *testing.T, server string, cert tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", server)
			if err != nil {
				front.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{front, back}, {back, front}} {
				go func() {
					defer front.Close()
					defer back.Close()
					_, _ = io.Copy(pair[0], pair[1]) // ends when either side hangs up
				}()
			}
		}
	}()
	return l.Addr().String()
}
