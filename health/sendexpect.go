package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
)

// Step is one line of a [SendExpect] script: it sends or it expects.
type Step struct {
	Send string // bytes to send

	// Expect lists texts of which one must come, after the text that the step before
	// found. Bytes in between are skipped. The text that is complete first counts.
	Expect []string
	// Anchored allows no bytes in between. A wrong reply then fails as soon as it
	// differs; otherwise at the close, the timeout, or after 64 KiB.
	Anchored bool
}

// SendExpect checks that a target follows a script, over TCP or a unix stream socket.
// Texts are bytes of any value. Make one with [NewSendExpect].
//
// Checks of Redis, of SMTP, and of PostgreSQL. The latter asks the user postgres to
// authenticate (R), or answers with an error (E) while it starts up; to an SSLRequest
// it would answer in both cases:
//
//	{Send: "PING\r\n"}, {Expect: []string{"+PONG\r\n"}, Anchored: true}
//	{Expect: []string{"220"}, Anchored: true}, {Send: "QUIT\r\n"}, {Expect: []string{"221"}}
//	{Send: "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00"}, {Expect: []string{"R"}, Anchored: true}
type SendExpect struct {
	steps []Step
	tls   *TLS
}

const (
	maxSteps = 64
	maxSend  = 64 << 10 // bytes that one step sends
)

// NewSendExpect returns a check that runs steps in order, over TLS unless secure is
// nil. With TLS the script may be empty, since the handshake is an answer. The error
// names the invalid step.
func NewSendExpect(steps []Step, secure *TLS) (*SendExpect, error) {
	if len(steps) > maxSteps {
		return nil, fmt.Errorf("the script has %d steps, more than %d", len(steps), maxSteps)
	}
	c := &SendExpect{steps: slices.Clone(steps), tls: secure}
	hasAnswer := secure != nil
	for i, s := range steps {
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("step %d of the script: %w", i+1, err)
		}
		c.steps[i].Expect = slices.Clone(s.Expect)
		hasAnswer = hasAnswer || len(s.Expect) > 0
	}
	if !hasAnswer {
		return nil, errors.New("the script expects nothing: use a check of kind tcp")
	}
	return c, nil
}

func (s Step) validate() error {
	switch {
	case s.Send == "" && len(s.Expect) == 0:
		return errors.New("it neither sends nor expects anything")
	case s.Send != "" && len(s.Expect) > 0:
		return errors.New("it both sends and expects: make it two")
	case s.Send != "" && s.Anchored:
		return errors.New("anchored has no effect on what is sent")
	case len(s.Send) > maxSend:
		return fmt.Errorf("it sends %d bytes, more than %d", len(s.Send), maxSend)
	}
	for _, text := range s.Expect {
		if text == "" {
			return errors.New("it expects an empty text")
		}
		if len(text) > maxText {
			return fmt.Errorf("it expects %d bytes, more than the %d that are searched", len(text), maxText)
		}
	}
	return nil
}

// Check connects, runs the script and closes as a TCP check does.
func (c *SendExpect) Check(ctx context.Context, t Target) error {
	return withConn(ctx, t, c.tls, t.host(), nil, func(conn net.Conn) error {
		reply := textFinder{from: conn}
		for i, s := range c.steps {
			if err := s.run(conn, &reply); err != nil {
				return fmt.Errorf("step %d, %s: %w", i+1, s, err)
			}
		}
		return nil
	})
}

// errNotRead means that the target does not read what is sent.
var errNotRead = errors.New("the target did not read it in time")

func (s Step) run(conn io.Writer, reply *textFinder) error {
	if s.Send != "" {
		_, err := io.WriteString(conn, s.Send)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errNotRead
		}
		return err
	}
	return reply.find(s.Expect, s.Anchored)
}

// String returns the step for a log.
func (s Step) String() string {
	if s.Send != "" {
		return "send " + excerpt([]byte(s.Send))
	}
	text := "expect " + excerpt([]byte(s.Expect[0]))
	if n := len(s.Expect) - 1; n > 0 {
		text += fmt.Sprintf(" or %d more", n)
	}
	return text
}
