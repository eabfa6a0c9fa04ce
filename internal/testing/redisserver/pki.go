package redisserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ServerName is a name in the server's certificate, besides 127.0.0.1 and
// localhost, that no DNS resolves.
const ServerName = "redis.test"

// A PKI is a private certificate authority, with a certificate for servers and
// one for clients, in files.
type PKI struct {
	CAFile                string
	CertFile, KeyFile     string // the servers', who also show it to each other
	ClientCert, ClientKey string
}

// NewPKI creates one in the directory dir; it is valid for a day.
func NewPKI(dir string) (*PKI, error) {
	p := &PKI{
		CAFile:   filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key"),
		ClientCert: filepath.Join(dir, "client.pem"), ClientKey: filepath.Join(dir, "client.key"),
	}
	ca := issuer{}
	if err := ca.issue(certificate("test authority", true), p.CAFile, filepath.Join(dir, "ca.key")); err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	server := certificate("test server", false)
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	server.DNSNames = []string{"localhost", ServerName}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	client := certificate("test client", false)
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if err := ca.issue(server, p.CertFile, p.KeyFile); err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	if err := ca.issue(client, p.ClientCert, p.ClientKey); err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	return p, nil
}

// Client returns the configuration of a client that trusts the authority and
// has the client's certificate.
func (p *PKI) Client() (*tls.Config, error) {
	roots, err := p.pool()
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(p.ClientCert, p.ClientKey)
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
}

// Server returns the configuration of something that acts as one of the
// servers, such as a proxy. It requires no certificate from clients.
func (p *PKI) Server() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

func (p *PKI) pool() (*x509.CertPool, error) {
	text, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, fmt.Errorf("redisserver: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("redisserver: there is no certificate in %s", p.CAFile)
	}
	return roots, nil
}

func certificate(name string, ca bool) *x509.Certificate {
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		c.KeyUsage |= x509.KeyUsageCertSign
	}
	return c
}

// An issuer signs certificates: its own first, and then others.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

// issue writes a signed certificate and its key to files.
func (i *issuer) issue(template *x509.Certificate, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	i.n++
	template.SerialNumber = big.NewInt(i.n)
	if i.cert == nil {
		i.cert, i.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return err
	}
	return writePEM(keyFile, "PRIVATE KEY", secret)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
