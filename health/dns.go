package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// DNS checks that a target of network "udp" answers a query for the A records of
// a name. What it answers does not matter: an empty answer, one that is cut short
// (TC) and NXDOMAIN come from servers that work. SERVFAIL and REFUSED do not count
// as answers. Make one with [NewDNS].
type DNS struct {
	question string // QNAME, QTYPE and QCLASS as they stand in a message
}

// NewDNS returns a check that asks for name, with or without a dot at its end; "."
// is the root. The error says why name is none.
func NewDNS(name string) (DNS, error) {
	// RFC 1035, 2.3.4: labels of 1 to 63 bytes, 255 bytes in all on the wire.
	var question []byte
	if name != "." {
		for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
			if label == "" || len(label) > 63 || strings.Trim(label, labelLetters) != "" {
				return DNS{}, fmt.Errorf("%.80q is not a domain name", name)
			}
			question = append(append(question, byte(len(label))), label...)
		}
	}
	question = append(question, 0)
	if len(question) > 255 {
		return DNS{}, fmt.Errorf("%.60q… is too long for a domain name", name)
	}
	question = binary.BigEndian.AppendUint16(question, typeA)
	question = binary.BigEndian.AppendUint16(question, classIN)
	return DNS{string(question)}, nil
}

// labelLetters are those of host names and what operators use beside them.
const labelLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*"

// Check sends one query from a socket of its own. Replies that are malformed or
// belong to another query are passed over until ctx ends; the error then tells of
// the last one.
func (c DNS) Check(ctx context.Context, t Target) error {
	id := uint16(rand.Uint32())
	return ask(ctx, t, c.query(id), func(reply []byte) (bool, error) { return c.judge(reply, id) })
}

// The parts of RFC 1035, 4.1 that a check needs.
const (
	headerLen = 12 // ID, flags, and four counts, of 16 bits each
	typeA     = 1
	classIN   = 1

	flagResponse  = 1 << 15
	flagTruncated = 1 << 9
	flagRecursion = 1 << 8 // desired
	maskOpcode    = 0xf << 11
	maskCode      = 0xf
)

// query is a message with one question.
func (c DNS) query(id uint16) []byte {
	m := make([]byte, headerLen, headerLen+len(c.question))
	binary.BigEndian.PutUint16(m, id)
	binary.BigEndian.PutUint16(m[2:], flagRecursion)
	binary.BigEndian.PutUint16(m[4:], 1) // questions
	return append(m, c.question...)
}

var (
	errNotReply     = errors.New("not a reply to the query")
	errMalformed    = errors.New("malformed reply")
	errOtherRequest = errors.New("reply to another query")
)

// judge reads a reply to query(id). The outcome is decided by a well-formed one
// to that very question.
func (c DNS) judge(m []byte, id uint16) (decided bool, err error) {
	if len(m) < headerLen {
		return false, errMalformed
	}
	word := func(at int) uint16 { return binary.BigEndian.Uint16(m[at:]) }
	flags := word(2)
	if flags&flagResponse == 0 || flags&maskOpcode != 0 {
		return false, errNotReply
	}
	if word(0) != id {
		return false, errOtherRequest
	}
	rest := m[headerLen:]
	if word(4) != 1 || len(rest) < len(c.question) {
		return false, errMalformed
	}
	// Names compare without regard to case (RFC 4343). The lengths of labels, type
	// and class are no letters.
	if !equalFold(rest[:len(c.question)], c.question) {
		return false, errOtherRequest
	}
	switch code := flags & maskCode; code {
	case 2:
		return true, errors.New("the server failed (SERVFAIL)")
	case 5:
		return true, errors.New("the server refuses to answer (REFUSED)")
	}
	// A message cut short may hold less than its counts promise (RFC 2181, 9).
	records := int(word(6)) + int(word(8)) + int(word(10))
	if flags&flagTruncated == 0 && !holdRecords(rest[len(c.question):], records) {
		return false, errMalformed
	}
	return true, nil
}

// equalFold compares the bytes of two names without regard to the case of ASCII letters.
func equalFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		if lower(x) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// holdRecords reports whether b has room for so many resource records (RFC 1035,
// 4.1.3), as their lengths tell it.
func holdRecords(b []byte, records int) bool {
	const fixed = 10 // TYPE, CLASS, TTL, RDLENGTH
	for range records {
		n := nameLen(b)
		if n == 0 || len(b) < n+fixed {
			return false
		}
		data := int(binary.BigEndian.Uint16(b[n+fixed-2:]))
		if b = b[n+fixed:]; len(b) < data {
			return false
		}
		b = b[data:]
	}
	return true
}

// nameLen is the length of the name at the beginning of b, 0 if there is none: it
// ends with the empty label or with a pointer, which is not followed.
func nameLen(b []byte) int {
	for at := 0; at < len(b); {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0 && at+2 <= len(b):
			return at + 2
		case n > 63:
			return 0
		default:
			at += 1 + n
		}
	}
	return 0
}
