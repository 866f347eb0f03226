package discovery

import (
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// conn is a connection to a name server, on which package net asks one question. It
// reads along, and changes only the deadline.
type conn struct {
	net.Conn
	trace      *trace
	server     string
	isPacket   bool
	isFollowUp bool // made after the trace has ended questions

	id       uint16
	question dnsmessage.Question
	stream   []byte // read so far, if this is not a packet connection
}

// packetConn has the methods by which package net recognises UDP.
type packetConn struct {
	*conn
	packets net.PacketConn
}

func (c packetConn) ReadFrom(b []byte) (int, net.Addr, error)   { return c.packets.ReadFrom(b) }
func (c packetConn) WriteTo(b []byte, at net.Addr) (int, error) { return c.packets.WriteTo(b, at) }

// lengthPrefix is the size of the length before messages in a stream (RFC 1035, 4.2.2).
const lengthPrefix = 2

func (c *conn) Write(b []byte) (int, error) {
	message := b
	if !c.isPacket && len(b) > lengthPrefix {
		message = b[lengthPrefix:]
	}
	var p dnsmessage.Parser
	if h, err := p.Start(message); err == nil {
		if q, err := p.Question(); err == nil {
			c.id, c.question = h.ID, q
			c.trace.onQuestion(c.server, q)
		}
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.trace.onFailure(c, c.server, err)
	}
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case err != nil:
		c.trace.onFailure(c, c.server, err)
	case c.isPacket:
		c.parse(b[:n])
	default:
		c.stream = append(c.stream, b[:n]...)
		if s := c.stream; len(s) >= lengthPrefix {
			if length := int(s[0])<<8 | int(s[1]); len(s) >= lengthPrefix+length {
				c.parse(s[lengthPrefix : lengthPrefix+length])
			}
		}
	}
	return n, err
}

// parse ignores messages that do not answer the question, as package net does: they may
// be forged.
func (c *conn) parse(message []byte) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || h.ID != c.id {
		return
	}
	q, err := p.Question()
	if err != nil || q.Type != c.question.Type || q.Class != c.question.Class ||
		!strings.EqualFold(q.Name.String(), c.question.Name.String()) {
		return
	}
	c.trace.onAnswer(c, &p, h)
}

// SetDeadline sets a deadline, but not beyond that of the trace.
func (c *conn) SetDeadline(at time.Time) error {
	c.trace.mu.Lock()
	defer c.trace.mu.Unlock()
	return c.Conn.SetDeadline(earlier(at, c.deadlineLocked()))
}

// deadlineLocked needs the trace's mu.
func (c *conn) deadlineLocked() time.Time {
	if c.isFollowUp {
		return c.trace.lookupEnd
	}
	return c.trace.questionEnd
}

func (c *conn) Close() error {
	c.trace.mu.Lock()
	delete(c.trace.open, c)
	c.trace.mu.Unlock()
	return c.Conn.Close()
}
