package changestream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// An absence is why no server answers: in one short sentence, instead of the driver's
// description of all that it knows about all servers.
type absence struct {
	address string // host:port, or several; "" if it is unknown
	cause   string
	final   bool // waiting doesn't help: a certificate, the name of the replica set
	failed  bool // a server is known to have failed, rather than a caller to have waited in vain
}

// absenceOf is what an error of the driver says about the servers, if it is about
// them: none could be selected, or a connection failed.
func absenceOf(err error) (absence, bool) {
	if err == nil {
		return absence{}, false
	}
	var selection topology.ServerSelectionError
	if errors.As(err, &selection) {
		return absenceOfServers(selection.Desc), true
	}
	var connection topology.ConnectionError
	if errors.As(err, &connection) {
		address, _, _ := strings.Cut(connection.ConnectionID, "[")
		return absence{address: address, cause: networkCause(connection), failed: !isCanceled(connection), final: isFinal(connection)}, true
	}
	var full topology.WaitQueueTimeoutError
	if errors.As(err, &full) {
		return absence{cause: "all connections of the client are in use (see maxPoolSize)"}, true
	}
	if m := clearedPool.FindStringSubmatch(err.Error()); m != nil {
		return absence{address: m[1], cause: m[2], failed: true}, true
	}
	var op *net.OpError
	if errors.As(err, &op) {
		a := absence{cause: networkCause(op), failed: true}
		if op.Addr != nil {
			a.address = op.Addr.String()
		}
		return a, true
	}
	return absence{}, false
}

func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }

// addressOf is the address of the server that an error is about, "" if it is unknown.
func addressOf(err error) string {
	if late := (*lateError)(nil); errors.As(err, &late) && late.address != "" {
		return late.address
	}
	a, _ := absenceOf(err)
	return a.address
}

// clearedPool is the driver's error after that of another command, of which it keeps
// the text only. The cause is at its end.
var clearedPool = regexp.MustCompile(`connection pool for (\S+) was cleared because another operation failed with: (?:.*: )?(.+)$`)

// absenceOfServers says why none of the servers could be selected. The causes of
// several are each named by its address; most often they are the same.
func absenceOfServers(known description.Topology) absence {
	var addresses, causes []string
	final := true
	for _, s := range known.Servers {
		addresses = append(addresses, s.Addr.String())
		if s.LastError != nil {
			causes = append(causes, networkCause(s.LastError))
			final = final && isFinal(s.LastError)
		}
	}
	a := absence{address: strings.Join(addresses, ","), failed: len(causes) > 0 || len(addresses) == 0}
	a.final = final && len(causes) == len(addresses)
	distinct := slices.Compact(slices.Sorted(slices.Values(causes)))
	switch {
	case len(addresses) == 0 && known.SetName != "":
		a.cause = fmt.Sprintf("no server of the connection string is a member of a replica set named %q; check replicaSet in it, or leave it out", known.SetName)
	case len(addresses) == 0:
		a.cause = "the connection string leads to no server"
	case len(distinct) == 0:
		a.cause = "none of them answers, or none is a member that can be read from (no primary)"
	case len(causes) < len(addresses):
		a.cause = strings.Join(distinct, "; ") + "; no other member can be read from (no primary)"
	default:
		a.cause = strings.Join(distinct, "; ")
	}
	return a
}

// networkCause is the innermost error that means something to a person: "connection
// refused", not how the driver came to it.
func networkCause(err error) string {
	var (
		dns     *net.DNSError
		op      *net.OpError
		command mongo.CommandError
		record  tls.RecordHeaderError
		timeout net.Error
	)
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s can't be resolved", quote.Name(dns.Name))
	case isCertificate(err):
		return "its TLS certificate is refused: " + innermost(err).Error()
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &command) && command.Code != 0:
		return messageOf(command)
	case isHangup(err) && strings.Contains(err.Error(), "handshake"):
		return "it closed the connection at once (does it require TLS?)"
	case isHangup(err):
		return "it closed the connection"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "it does not answer"
	case errors.As(err, &op) && op.Err != nil:
		return innermost(op.Err).Error()
	}
	return innermost(err).Error()
}

func isCertificate(err error) bool {
	return errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

func isFinal(err error) bool { return isCertificate(err) || errors.As(err, new(tls.RecordHeaderError)) }

func isHangup(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// innermost unwraps an error as far as it goes.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// String reads on from "server".
func (a absence) String() string {
	if a.address == "" {
		return a.cause
	}
	return a.address + ": " + a.cause
}
