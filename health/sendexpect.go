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

	// Expect lists texts of which one must come, behind the text that the step
	// before found. Bytes in between are passed over. The one that is complete first
	// counts.
	Expect []string
	// Anchored allows no bytes in between: one of the texts must come next. A wrong
	// reply is then known as soon as it differs; otherwise it is one when the
	// target closes, at the end of the timeout, or after 64 KiB.
	Anchored bool
}

// SendExpect checks that a target keeps to the part that a script has for it, over
// TCP or a unix stream socket. Texts are bytes of any value. Make one with
// [NewSendExpect].
//
// A check of redis, of SMTP, and of PostgreSQL, which answers an SSLRequest with one
// byte, S or N, and any other trouble with an error message:
//
//	{Send: "PING\r\n"}, {Expect: []string{"+PONG\r\n"}, Anchored: true}
//	{Expect: []string{"220"}, Anchored: true}, {Send: "QUIT\r\n"}, {Expect: []string{"221"}}
//	{Send: "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, {Expect: []string{"S", "N"}, Anchored: true}
type SendExpect struct {
	steps []Step
	tls   *TLS
}

const (
	maxSteps = 64
	maxSend  = 64 << 10 // bytes that one step sends
)

// NewSendExpect returns a check that goes through steps in order, any number of one
// kind in a row, over TLS unless secure is nil. With TLS, whose handshake is an answer,
// the script may be empty. The error names the step that cannot be used.
func NewSendExpect(steps []Step, secure *TLS) (*SendExpect, error) {
	if len(steps) > maxSteps {
		return nil, fmt.Errorf("the script has %d steps, more than %d", len(steps), maxSteps)
	}
	c := &SendExpect{steps: slices.Clone(steps), tls: secure}
	listens := secure != nil
	for i, s := range steps {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("step %d of the script: %w", i+1, err)
		}
		c.steps[i].Expect = slices.Clone(s.Expect)
		listens = listens || len(s.Expect) > 0
	}
	if !listens {
		return nil, errors.New("the script expects nothing: it could tell no more than a check of kind tcp")
	}
	return c, nil
}

func (s Step) check() error {
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
			return fmt.Errorf("it expects %d bytes, more than the %d that are looked at", len(text), maxText)
		}
	}
	return nil
}

// Check connects, goes through the script, and takes leave as a TCP check does. Of an
// endless reply it reads 256 KiB in all.
func (c *SendExpect) Check(ctx context.Context, t Target) error {
	return converse(ctx, t, c.tls, hostOf(t), nil, func(conn net.Conn, _ *loan) error {
		heard := finder{from: conn}
		for i, s := range c.steps {
			if err := s.do(conn, &heard); err != nil {
				return fmt.Errorf("step %d, %s: %w", i+1, s, err)
			}
		}
		return nil
	})
}

// errUntaken is silence of another kind: the target does not read.
var errUntaken = errors.New("the target did not take it in time")

func (s Step) do(conn io.Writer, heard *finder) error {
	if s.Send != "" {
		_, err := io.WriteString(conn, s.Send)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errUntaken
		}
		return err
	}
	return heard.find(s.Expect, s.Anchored)
}

// String is the step as a line of a log has it.
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
