package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Agent asks a small server beside a backend what it wants to be given, in the protocol
// of HAProxy's agent-check: the agent is connected to, told a text if there is one, and
// answers with a line of words; see [ParseAdvice].
//
// As a [Checker] it fails if there is no such line. That says nothing about the backend,
// whose agent alone it is: what the agent said before goes on to hold.
type Agent struct {
	send  string
	heard func(Target, Advice)
}

// NewAgent returns an Agent that sends send, which may be empty, and tells heard of each
// answer, from the goroutine of the check; also of one that has been under way while its
// target was taken from its [Monitor].
func NewAgent(send string, heard func(Target, Advice)) *Agent {
	return &Agent{send: send, heard: heard}
}

// maxAdvice bounds the line of an agent, in bytes.
const maxAdvice = 1 << 10

// Check asks once.
func (a *Agent) Check(ctx context.Context, t Target) error {
	return converse(ctx, t, nil, "", nil, func(conn net.Conn, _ *loan) error {
		if _, err := io.WriteString(conn, a.send); a.send != "" && err != nil {
			return err
		}
		line, err := readAdvice(conn)
		if err != nil {
			return err
		}
		a.heard(t, ParseAdvice(line))
		return nil
	})
}

// readAdvice reads a line, which the end of the connection ends too: agents that are a
// line of shell often leave its end out.
func readAdvice(conn io.Reader) (string, error) {
	buf := make([]byte, maxAdvice)
	for n := 0; ; {
		m, err := conn.Read(buf[n:])
		n += m
		if end := bytes.IndexAny(buf[:n], "\r\n"); end >= 0 {
			return string(buf[:end]), nil
		}
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return string(buf[:n]), nil
		case err != nil:
			return "", err
		case n == len(buf):
			return "", fmt.Errorf("a line of more than %d bytes", maxAdvice)
		}
	}
}

// Advice is what an agent says. What it leaves out stays as it was; the zero value says
// nothing at all. It is comparable.
type Advice struct {
	Weight Number // in percent of the configured weight, 0 to 1000
	Max    Number // flows at once; 0: no limit
	Order  Order
	State  State
	Reason string // why the backend is down
	Odd    string // the first word that meant nothing
}

// Number is a number that an agent may leave out.
type Number struct {
	Given bool
	Value int
}

// Order is what an operator has told an agent. It stands above what checks find.
type Order uint8

const (
	OrderUnsaid Order = iota
	OrderReady        // ends the other two
	OrderDrain        // no new flows
	OrderMaint        // out of service
)

// State is how an agent finds its backend.
type State uint8

const (
	StateUnsaid State = iota
	StateUp           // ends StateDown, and leaves the rest to the checks
	StateDown
)

const (
	maxPercent = 1000
	maxQuoted  = 120 // bytes of a text of the agent
)

// ParseAdvice reads the words of an agent's line. Blanks and commas separate them, case
// does not matter, and of those that contradict each other the last counts:
//
//	75%                        a weight
//	maxconn:30                 a limit
//	ready, drain, maint        an order
//	up                         a state; so are
//	down, stopped, fail        and what follows a # is why
//
// Any line has a meaning, if only that of its words that are none.
func ParseAdvice(line string) Advice {
	words, reason, _ := strings.Cut(line, "#")
	var a Advice
	for _, word := range strings.FieldsFunc(words, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		if !a.take(strings.ToLower(word)) && a.Odd == "" {
			a.Odd = shorten(word)
		}
	}
	if a.State == StateDown {
		a.Reason = shorten(reason)
	}
	return a
}

func (a *Advice) take(word string) bool {
	switch word {
	case "ready":
		a.Order = OrderReady
	case "drain":
		a.Order = OrderDrain
	case "maint":
		a.Order = OrderMaint
	case "up":
		a.State = StateUp
	case "down", "stopped", "fail", "failed":
		a.State = StateDown
	default:
		if digits, ok := strings.CutSuffix(word, "%"); ok {
			return a.Weight.read(digits, maxPercent)
		}
		if digits, ok := strings.CutPrefix(word, "maxconn:"); ok {
			return a.Max.read(digits, maxThreshold)
		}
		return false
	}
	return true
}

// read takes digits alone, as a word with a sign means nothing. Of more than most it makes
// most, which is nearer to what the agent wants than what it said before. HAProxy bounds
// weights in the same way.
func (n *Number) read(digits string, most int) bool {
	value, err := strconv.ParseUint(digits, 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return false
	}
	*n = Number{Given: true, Value: int(min(value, uint64(most)))}
	return true
}

// shorten makes a stranger's text fit for a line of a log.
func shorten(text string) string {
	if len(text) > maxQuoted {
		text = text[:maxQuoted]
	}
	return strings.TrimSpace(brief{errors.New(strings.ToValidUTF8(text, "?"))}.Error())
}

// Over is what holds when an agent says a after it has said before.
func (a Advice) Over(before Advice) Advice {
	if !a.Weight.Given {
		a.Weight = before.Weight
	}
	if !a.Max.Given {
		a.Max = before.Max
	}
	if a.Order == OrderUnsaid {
		a.Order = before.Order
	}
	if a.State == StateUnsaid {
		a.State, a.Reason = before.State, before.Reason
	}
	if before.Odd != "" {
		a.Odd = before.Odd
	}
	return a
}
