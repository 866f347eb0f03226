// Package clienthello reads what a TLS client asks for in its first message, before anybody
// answers it: the server name and the application protocols. It is pure, and decrypts nothing.
//
//	Parse  bytes received so far → Hello
//
// With Encrypted ClientHello the name is the outer one, which the client means for whoever
// stands before the server.
package clienthello

import (
	"errors"
	"strings"
)

// Hello is what a ClientHello says.
type Hello struct {
	// ServerName is the name of RFC 6066 in lower case, without a trailing dot; empty if the
	// client names none.
	ServerName string
	// protocols is the list of RFC 7301, without its length. It is a part of the bytes that
	// Parse was given.
	protocols []byte
}

const (
	// maxMessage bounds the message, as Envoy and nginx do. Browsers send 2 KB with keys for
	// post-quantum cryptography.
	maxMessage = 16 << 10
	// MaxLength bounds all bytes that are looked at: such a message, and the heads of its
	// records. Parse of as many bytes is never incomplete.
	MaxLength = maxMessage + 1<<10
)

var (
	// ErrIncomplete means that a ClientHello has begun, and more bytes are needed.
	ErrIncomplete = errors.New("the ClientHello is incomplete")
	ErrNotTLS     = errors.New("no TLS ClientHello")
	ErrTooLong    = errors.New("the ClientHello is too long")
	ErrMalformed  = errors.New("the ClientHello is malformed")
	ErrServerName = errors.New("the server name of the ClientHello is no host name")
)

// Parse reads the ClientHello with which b begins. More bytes never change another error than
// ErrIncomplete. It allocates the name, and a copy of a message that comes in several records.
// The Hello holds on to b.
func Parse(b []byte) (Hello, error) {
	m, err := message(b)
	if err != nil {
		return Hello{}, err
	}
	return parseMessage(m)
}

// HasProtocol reports whether the client offers an application protocol.
func (h *Hello) HasProtocol(name string) bool {
	for r := reader(h.protocols); len(r) > 0; {
		protocol, _ := r.vector8()
		if string(protocol) == name {
			return true
		}
	}
	return false
}

// Extensions that matter.
const (
	extServerName = 0
	extProtocols  = 16

	nameTypeHost = 0
)

// parseMessage reads the body of a ClientHello (RFC 8446, 4.1.2).
func parseMessage(m reader) (h Hello, err error) {
	_, okVersion := m.bytes(2)
	_, okRandom := m.bytes(32)
	_, okSession := m.vector8()
	suites, okSuites := m.vector16()
	_, okCompression := m.vector8()
	if !okVersion || !okRandom || !okSession || !okSuites || !okCompression || len(suites)%2 != 0 {
		return Hello{}, ErrMalformed
	}
	if len(m) == 0 { // as before TLS 1.2
		return Hello{}, nil
	}
	extensions, ok := m.vector16()
	if !ok || len(m) > 0 {
		return Hello{}, ErrMalformed
	}
	var hasName bool
	for len(extensions) > 0 {
		kind, okKind := extensions.uint16()
		data, okData := extensions.vector16()
		switch {
		case !okKind || !okData:
			return Hello{}, ErrMalformed
		case kind == extServerName && hasName, kind == extProtocols && h.protocols != nil:
			return Hello{}, ErrMalformed
		case kind == extServerName:
			h.ServerName, err = parseServerName(data)
			hasName = true
		case kind == extProtocols:
			h.protocols, err = parseProtocols(data)
		}
		if err != nil {
			return Hello{}, err
		}
	}
	return h, nil
}

// parseServerName reads the list of names, of which one may be that of a host.
func parseServerName(data reader) (string, error) {
	names, ok := data.vector16()
	if !ok || len(data) > 0 || len(names) == 0 {
		return "", ErrMalformed
	}
	var host reader
	for len(names) > 0 {
		kind, okKind := names.bytes(1)
		name, okName := names.vector16()
		switch {
		case !okKind || !okName || len(name) == 0:
			return "", ErrMalformed
		case kind[0] == nameTypeHost && host != nil:
			return "", ErrMalformed
		case kind[0] == nameTypeHost:
			host = name
		}
	}
	if host == nil {
		return "", nil
	}
	if host[len(host)-1] == '.' {
		host = host[:len(host)-1]
	}
	if !isHostName(host) {
		return "", ErrServerName
	}
	return strings.ToLower(string(host)), nil
}

const (
	maxName  = 253
	maxLabel = 63
)

// isHostName reports whether a name consists of labels of letters, digits, - and _.
func isHostName(name []byte) bool {
	label := 0
	for _, c := range name {
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case c == '-', c == '_', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		default:
			return false
		}
		if label++; label > maxLabel {
			return false
		}
	}
	return label > 0 && len(name) <= maxName
}

// parseProtocols checks the list of protocols.
func parseProtocols(data reader) ([]byte, error) {
	list, ok := data.vector16()
	if !ok || len(data) > 0 || len(list) == 0 {
		return nil, ErrMalformed
	}
	for rest := list; len(rest) > 0; {
		if name, ok := rest.vector8(); !ok || len(name) == 0 {
			return nil, ErrMalformed
		}
	}
	return list, nil
}
