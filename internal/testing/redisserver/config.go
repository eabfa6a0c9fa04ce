package redisserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// config returns the server's redis.conf. Of two lines with the same name the
// last one is used.
func (s *Server) config() string {
	lines := append([]string{"bind 127.0.0.1", "dir " + s.Dir, "daemonize no"}, s.ports()...)
	if s.mode != sentinel {
		lines = append(lines, `save ""`, "appendonly no", "maxmemory-policy noeviction")
	}
	if s.opts.Password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(s.opts.Password))
	}
	for _, u := range s.opts.Users {
		lines = append(lines, fmt.Sprintf("user %s on %s %s", u.Name, strconv.Quote(">"+u.Password), u.Rules))
	}
	lines = append(lines, s.extra...)
	return strings.Join(append(lines, s.opts.Config...), "\n") + "\n"
}

func (s *Server) ports() []string {
	port := strconv.Itoa(s.Port())
	var lines []string
	if s.Socket != "" {
		lines = append(lines, "unixsocket "+s.Socket)
	}
	if s.opts.TLS == nil {
		return append(lines, "port "+port)
	}
	return append(lines,
		"port 0", "tls-port "+port,
		"tls-cert-file "+s.opts.TLS.CertFile, "tls-key-file "+s.opts.TLS.KeyFile, "tls-ca-cert-file "+s.opts.TLS.CAFile,
		"tls-auth-clients optional")
}

func (s *Server) configFile() string { return filepath.Join(s.Dir, "redis.conf") }

// configure writes the file of a server that rewrites its configuration itself.
func (s *Server) configure() error {
	if s.mode != replicated && s.mode != sentinel {
		return nil
	}
	if err := os.WriteFile(s.configFile(), []byte(s.config()), 0o600); err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	return nil
}
