package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/rigatoni-etl/rigatoni/state"
)

func (o *Options) wantsTLS() bool { return o.TLS != nil || o.namesTLS() }

// namesTLS reports whether a file or a name of TLS is set.
func (o *Options) namesTLS() bool {
	return o.TLSCAFile != "" || o.TLSCertFile != "" || o.TLSKeyFile != "" || o.TLSServerName != ""
}

// tlsConfig is the configuration that the options ask for, nil for none.
func (o *Options) tlsConfig() (*tls.Config, error) {
	if !o.wantsTLS() {
		return nil, nil
	}
	c := &tls.Config{}
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if o.TLSServerName != "" {
		c.ServerName = o.TLSServerName
	}
	if err := o.trust(c); err != nil {
		return nil, err
	}
	return c, o.present(c)
}

// trust has c trust the authorities of TLSCAFile, and no others.
func (o *Options) trust(c *tls.Config) error {
	if o.TLSCAFile == "" {
		return nil
	}
	if c.RootCAs != nil {
		return fmt.Errorf("%w: both TLSCAFile (tls-ca-file) and TLS.RootCAs are set; leave one out", state.ErrInvalid)
	}
	pem, err := os.ReadFile(o.TLSCAFile)
	if err != nil {
		return fmt.Errorf("%w: TLSCAFile (tls-ca-file) can't be read: %w", state.ErrInvalid, err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%w: TLSCAFile (tls-ca-file) %s has no certificate in PEM form", state.ErrInvalid, o.TLSCAFile)
	}
	return nil
}

// present has c show the certificate of TLSCertFile.
func (o *Options) present(c *tls.Config) error {
	if o.TLSCertFile == "" && o.TLSKeyFile == "" {
		return nil
	}
	if o.TLSCertFile == "" || o.TLSKeyFile == "" {
		return fmt.Errorf("%w: a client certificate needs both TLSCertFile (tls-cert-file) and TLSKeyFile (tls-key-file); one is missing", state.ErrInvalid)
	}
	cert, err := tls.LoadX509KeyPair(o.TLSCertFile, o.TLSKeyFile)
	if err != nil {
		return fmt.Errorf("%w: the client certificate of TLSCertFile (tls-cert-file) %s and TLSKeyFile (tls-key-file) %s can't be used: %w",
			state.ErrInvalid, o.TLSCertFile, o.TLSKeyFile, err)
	}
	c.Certificates = append(c.Certificates[:len(c.Certificates):len(c.Certificates)], cert)
	return nil
}
