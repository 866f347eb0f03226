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

// Agent asks a small server beside a backend what load the backend wants, in the
// protocol of HAProxy's agent-check: connect, send a text if there is one, read one
// line of words.
//
// As a [Checker] it fails if there is no such line. That says nothing about the
// backend, only about its agent: the last report stays in force.
type Agent struct {
	send     string
	onReport func(Target, AgentReport)
}

// NewAgent returns an Agent that sends send, which may be empty. It calls onReport with
// each answer, from the goroutine of the check. A check that is under way when
// [Monitor.Set] removes its target may still report.
func NewAgent(send string, onReport func(Target, AgentReport)) *Agent {
	return &Agent{send: send, onReport: onReport}
}

// maxAgentLine bounds the line of an agent, in bytes.
const maxAgentLine = 1 << 10

// Check asks once.
func (a *Agent) Check(ctx context.Context, t Target) error {
	return withConn(ctx, t, nil, "", nil, func(conn net.Conn) error {
		if _, err := io.WriteString(conn, a.send); a.send != "" && err != nil {
			return err
		}
		line, err := readAgentLine(conn)
		if err != nil {
			return err
		}
		a.onReport(t, ParseAgentReport(line))
		return nil
	})
}

// readAgentLine reads a line. The end of the connection ends it too, because agents
// written in shell often omit the newline.
func readAgentLine(conn io.Reader) (string, error) {
	buf := make([]byte, maxAgentLine)
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
			return "", fmt.Errorf("a line of more than %d bytes", maxAgentLine)
		}
	}
}

// AgentReport is what an agent says. Fields that are not set keep their former value.
// It is comparable.
type AgentReport struct {
	Weight      OptionalInt // percent of the configured weight, 0 to 1000
	Max         OptionalInt // concurrent flows; 0: no limit
	Admin       AdminState
	Oper        OperState
	Reason      string // why the backend is down
	UnknownWord string // the first word without a meaning
}

// OptionalInt is a number that an agent may omit.
type OptionalInt struct {
	IsSet bool
	Value int
}

// AdminState is the administrative state that an operator set through the agent. It
// overrides check results.
type AdminState uint8

const (
	AdminUnset AdminState = iota
	AdminReady            // ends drain and maint
	AdminDrain            // no new flows
	AdminMaint            // out of service
)

// OperState is the operational state that an agent sees.
type OperState uint8

const (
	OperUnset OperState = iota
	OperUp              // ends OperDown; checks decide
	OperDown
)

const (
	maxAgentWeight = 1000 // percent
	maxAgentText   = 120  // bytes that are kept of a word or reason
)

// ParseAgentReport reads an agent's line. Blanks and commas separate words, case does
// not matter, and the last of contradicting words wins:
//
//	75%                    weight
//	maxconn:30             limit
//	ready, drain, maint    administrative state
//	up                     operational state
//	down, stopped, fail    operational state; the reason follows a #
//
// It accepts any line; words without a meaning are ignored.
func ParseAgentReport(line string) AgentReport {
	words, reason, _ := strings.Cut(line, "#")
	var r AgentReport
	for _, word := range strings.FieldsFunc(words, func(c rune) bool { return c == ' ' || c == '\t' || c == ',' }) {
		if !r.parseWord(strings.ToLower(word)) && r.UnknownWord == "" {
			r.UnknownWord = agentText(word)
		}
	}
	if r.Oper == OperDown {
		r.Reason = agentText(reason)
	}
	return r
}

func (r *AgentReport) parseWord(word string) (ok bool) {
	switch word {
	case "ready":
		r.Admin = AdminReady
	case "drain":
		r.Admin = AdminDrain
	case "maint":
		r.Admin = AdminMaint
	case "up":
		r.Oper = OperUp
	case "down", "stopped", "fail", "failed":
		r.Oper = OperDown
	default:
		if digits, ok := strings.CutSuffix(word, "%"); ok {
			return r.Weight.parse(digits, maxAgentWeight)
		}
		if digits, ok := strings.CutPrefix(word, "maxconn:"); ok {
			return r.Max.parse(digits, maxThreshold)
		}
		return false
	}
	return true
}

// parse accepts digits only; a sign has no meaning. It reduces a number above limit to
// limit, as HAProxy does with weights.
func (n *OptionalInt) parse(digits string, limit int) (ok bool) {
	value, err := strconv.ParseUint(digits, 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return false
	}
	*n = OptionalInt{IsSet: true, Value: int(min(value, uint64(limit)))}
	return true
}

// agentText makes an agent's text fit for a log.
func agentText(text string) string {
	text = text[:min(len(text), maxAgentText)]
	return strings.TrimSpace(sanitize(strings.ToValidUTF8(text, "?")))
}

// Merge returns r with the fields of before where r sets none.
func (r AgentReport) Merge(before AgentReport) AgentReport {
	if !r.Weight.IsSet {
		r.Weight = before.Weight
	}
	if !r.Max.IsSet {
		r.Max = before.Max
	}
	if r.Admin == AdminUnset {
		r.Admin = before.Admin
	}
	if r.Oper == OperUnset {
		r.Oper, r.Reason = before.Oper, before.Reason
	}
	if before.UnknownWord != "" {
		r.UnknownWord = before.UnknownWord
	}
	return r
}
