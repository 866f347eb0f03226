package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS checks that a target of network "udp" answers a query for the A records of a
// name. Any answer is good: also an empty or truncated one, and NXDOMAIN. SERVFAIL and
// REFUSED are not. Make one with [NewDNS].
type DNS struct {
	question dnsmessage.Question
}

// NewDNS returns a check that asks for name, with or without a final dot; "." is the
// root. The error says why name is not a domain name.
func NewDNS(name string) (DNS, error) {
	full := strings.TrimSuffix(name, ".") + "."
	if name != "." {
		// RFC 1035, 2.3.4: labels of 1 to 63 bytes.
		for label := range strings.SplitSeq(strings.TrimSuffix(full, "."), ".") {
			if label == "" || len(label) > 63 || strings.Trim(label, labelLetters) != "" {
				return DNS{}, fmt.Errorf("%.80q is not a domain name", name)
			}
		}
	}
	n, err := dnsmessage.NewName(full)
	if err != nil || len(full) > 254 { // 255 bytes on the wire
		return DNS{}, fmt.Errorf("%.60q… is too long for a domain name", name)
	}
	return DNS{dnsmessage.Question{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}, nil
}

// labelLetters are those of host names, and others in common use.
const labelLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*"

// Check sends one query from a new socket. It ignores replies that are malformed or
// belong to another query until ctx ends; the error then describes the last one.
func (c DNS) Check(ctx context.Context, t Target) error {
	id := uint16(rand.Uint32())
	query, err := c.query(id)
	if err != nil {
		return fmt.Errorf("ask %s: %w", t.Address, err)
	}
	return exchange(ctx, t, query, func(reply []byte) (bool, error) { return c.evaluate(reply, id) })
}

// query returns a message with one question.
func (c DNS) query(id uint16) ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{c.question},
	}
	return m.Pack()
}

var (
	errNotReply     = errors.New("not a reply to the query")
	errMalformed    = errors.New("malformed reply")
	errOtherRequest = errors.New("reply to another query")
)

// evaluate reads a reply to query(id). Only a well-formed one to that question decides.
func (c DNS) evaluate(m []byte, id uint16) (isDecided bool, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(m)
	switch {
	case err != nil:
		return false, errMalformed
	case !header.Response || header.OpCode != 0:
		return false, errNotReply
	case header.ID != id:
		return false, errOtherRequest
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 {
		return false, errMalformed
	}
	// Names compare without regard to case (RFC 4343).
	q := questions[0]
	if !strings.EqualFold(q.Name.String(), c.question.Name.String()) || q.Type != c.question.Type || q.Class != c.question.Class {
		return false, errOtherRequest
	}
	switch header.RCode {
	case dnsmessage.RCodeServerFailure:
		return true, errors.New("the server failed (SERVFAIL)")
	case dnsmessage.RCodeRefused:
		return true, errors.New("the server refuses to answer (REFUSED)")
	}
	// A truncated message may hold less than its counts say (RFC 2181, 9).
	if !header.Truncated && errors.Join(p.SkipAllAnswers(), p.SkipAllAuthorities(), p.SkipAllAdditionals()) != nil {
		return false, errMalformed
	}
	return true, nil
}
