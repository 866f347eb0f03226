package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// GRPCOptions say what a gRPC check requests.
type GRPCOptions struct {
	Service   string // its name in the server's health table; empty: the server as a whole
	Authority string // with or without a port; empty: the target's address, "localhost" for a unix socket
	TLS       *TLS   // nil: cleartext HTTP/2 with prior knowledge
}

// GRPC checks a target with the health protocol of gRPC: the method Check of
// grpc.health.v1.Health. Only SERVING is good. Make one with [NewGRPC].
type GRPC struct {
	authority, service string
	request            []byte
	tls                *TLS
}

// NewGRPC returns a check. The error names the invalid option.
func NewGRPC(o GRPCOptions) (*GRPC, error) {
	if err := validateAuthority(o.Authority); err != nil {
		return nil, fmt.Errorf("grpc authority: %w", err)
	}
	if !utf8.ValidString(o.Service) {
		return nil, fmt.Errorf("grpc service %.80q is not UTF-8", o.Service)
	}
	if len(o.Service) > maxMessage/2 {
		return nil, fmt.Errorf("grpc service has %d bytes, more than %d", len(o.Service), maxMessage/2)
	}
	return &GRPC{authority: o.Authority, service: o.Service, request: frame(encodeRequest(o.Service)), tls: o.TLS}, nil
}

const (
	healthMethod = "/grpc.health.v1.Health/Check"
	maxHeaders   = 16 << 10 // bytes of headers, and of trailers
)

// Check makes one call on a new connection.
func (c *GRPC) Check(ctx context.Context, t Target) error {
	authority, name := c.authority, hostname(c.authority)
	if authority == "" {
		authority, name = t.authority(), t.host()
	}
	scheme := "http"
	if c.tls != nil {
		scheme = "https"
	}
	return withConn(ctx, t, c.tls, name, []string{"h2"}, func(conn net.Conn) error {
		if secure, ok := conn.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol != "h2" {
			return errors.New("the server does not agree on HTTP/2 in its TLS handshake")
		}
		call, err := startGRPCCall(conn, scheme, authority, c.request)
		if err != nil {
			return err
		}
		if err := call.finish(); err != nil {
			return err
		}
		return c.evaluate(call)
	})
}

// evaluate reads the status of a reply, then its one message.
func (c *GRPC) evaluate(reply *grpcCall) error {
	// A reply without a message has its status in the headers.
	from := reply.trailer
	if reply.header.Get("Grpc-Status") != "" {
		from = reply.header
	}
	if err := c.evaluateStatus(from); err != nil {
		return err
	}
	message, err := unframe(reply.body)
	if err != nil {
		return err
	}
	return evaluateServing(message)
}

// isGRPC reports whether a content type is gRPC's, with or without an encoding. gRPC-Web
// (application/grpc-web) is another protocol.
func isGRPC(kind string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(kind), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// evaluateStatus reads the status of the call.
func (c *GRPC) evaluateStatus(from http.Header) error {
	word := from.Get("Grpc-Status")
	code, err := strconv.ParseUint(word, 10, 31)
	switch {
	case word == "":
		return errors.New("the reply has no grpc-status")
	case err != nil:
		return fmt.Errorf("malformed grpc-status %s", excerpt([]byte(word)))
	case code == 0:
		return nil
	}
	name := strconv.FormatUint(code, 10)
	if code < uint64(len(statusNames)) {
		name = statusNames[code]
	}
	reason := "the call failed: " + name
	switch name {
	case "NOT_FOUND":
		reason = fmt.Sprintf("the server does not know the service %.80q: %s", c.service, name)
	case "UNIMPLEMENTED":
		reason = "the server does not have the health protocol: " + name
	}
	if message := from.Get("Grpc-Message"); message != "" {
		reason += " " + excerpt([]byte(unescapePercent(message)))
	}
	return errors.New(reason)
}

// statusNames are gRPC's status codes from 0.
var statusNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// unescapePercent decodes a grpc-message. As gRPC requires, it keeps bad escapes.
func unescapePercent(s string) string {
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
}
