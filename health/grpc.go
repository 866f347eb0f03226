package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// GRPCOptions say what a gRPC check asks for.
type GRPCOptions struct {
	Service   string // what the server's health table calls it; empty: the server as a whole
	Authority string // of the request, with or without a port; empty: the target's address, "localhost" for a unix socket
	TLS       *TLS   // nil: cleartext HTTP/2 with prior knowledge
}

// GRPC checks a target by the standard health protocol of gRPC: the method Check of
// grpc.health.v1.Health. SERVING is the one good answer. Make one with [NewGRPC].
type GRPC struct {
	authority, service string
	request            []byte
	tls                *TLS
}

// NewGRPC returns a check. The error names the option that cannot be used.
func NewGRPC(o GRPCOptions) (*GRPC, error) {
	if err := checkAuthority(o.Authority); err != nil {
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
	maxHeaders   = 16 << 10 // bytes of a reply's headers, and of its trailers
)

// Check makes one call on a connection of its own.
func (c *GRPC) Check(ctx context.Context, t Target) error {
	authority, name := c.authority, hostname(c.authority)
	if authority == "" {
		authority, name = authorityOf(t), hostOf(t)
	}
	address := url.URL{Scheme: "http", Host: authority, Path: healthMethod}
	if c.tls != nil {
		address.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(c.request))
	if err != nil {
		return fmt.Errorf("ask %s: %w", t.Address, err)
	}
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent}}
	return converse(ctx, t, c.tls, name, []string{"h2"}, func(conn net.Conn, lent *loan) error {
		client, err := speakHTTP2(ctx, conn, address.Scheme)
		if err != nil {
			return lent.cause(err)
		}
		defer client.Close()
		reply, err := client.RoundTrip(request)
		if err != nil {
			return lent.cause(err)
		}
		defer reply.Body.Close()
		return c.judge(reply)
	})
}

// speakHTTP2 makes net/http speak HTTP/2 on a connection that is there, and on no
// other. Closing what it returns ends the one goroutine that reads.
func speakHTTP2(ctx context.Context, conn net.Conn, scheme string) (*http.ClientConn, error) {
	if secure, ok := conn.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errors.New("the server does not agree on HTTP/2 in its TLS handshake")
	}
	have := func(context.Context, string, string) (net.Conn, error) { return withoutExtensions(conn), nil }
	transport := &http.Transport{
		DialContext: have, DialTLSContext: have,
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.Protocols.SetHTTP2(true)
	return transport.NewClientConn(ctx, scheme, "target:0")
}

// judge reads a reply: headers, one message, trailers.
func (c *GRPC) judge(reply *http.Response) error {
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d, not a gRPC server's", reply.StatusCode)
	}
	if kind := reply.Header.Get("Content-Type"); !isGRPC(kind) {
		return fmt.Errorf("content type %s, not a gRPC server's", excerpt([]byte(kind)))
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxMessage+1))
	switch {
	case err != nil:
		return err
	case len(body) > maxMessage:
		return fmt.Errorf("the reply is longer than %d bytes", maxMessage)
	}
	// A reply without a message has its status among the headers.
	from := reply.Trailer
	if reply.Header.Get("Grpc-Status") != "" {
		from = reply.Header
	}
	if err := c.judgeStatus(from); err != nil {
		return err
	}
	message, err := unframe(body)
	if err != nil {
		return err
	}
	return judgeServing(message)
}

// isGRPC reports whether a content type is gRPC's, with or without the name of an
// encoding. That of gRPC-Web, application/grpc-web, is another protocol.
func isGRPC(kind string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(kind), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// judgeStatus reads the outcome of the call, which comes before what its message says.
func (c *GRPC) judgeStatus(from http.Header) error {
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

// statusNames are gRPC's codes from 0 on.
var statusNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// unescapePercent decodes a grpc-message. Bad escapes stay as they are, as gRPC wants it.
func unescapePercent(s string) string {
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
}
