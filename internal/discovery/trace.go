package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// isTracing is true where package net asks name servers itself. Other systems have
// resolvers that know more than resolv.conf.
const isTracing = runtime.GOOS != "windows" && runtime.GOOS != "darwin" && runtime.GOOS != "ios"

// familyGrace is how long a lookup waits for one address family when the other has
// addresses. Then the question may go to one more server, for as long again.
const familyGrace = 300 * time.Millisecond

var (
	errNoAnswer = errors.New("no answer")
	errOver     = errors.New("the lookup is over")
)

// dialFunc is that of a net.Dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// trace makes the connections of one lookup and reads along. A nil trace is that of a
// lookup that cannot be traced.
type trace struct {
	servers *servers
	dial    dialFunc
	stop    func() bool // detaches it from its context

	mu          sync.Mutex
	questions   map[dnsmessage.Type]*question
	ttl         time.Duration // the least found, 0: nothing yet
	problems    []string      // of servers, without duplicates
	open        map[*conn]bool
	questionEnd time.Time // deadline of open questions; zero: package net's
	lookupEnd   time.Time // deadline of questions that follow
}

// question is the last one of a type; a search list may cause several.
type question struct {
	name       string
	server     string // asked last
	isAnswered bool   // also without records
	problem    error
}

func newTrace(ctx context.Context, s *servers, dial dialFunc) *trace {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	t := &trace{servers: s, dial: dial, questions: make(map[dnsmessage.Type]*question), open: make(map[*conn]bool)}
	t.stop = context.AfterFunc(ctx, func() { t.limit(0) })
	return t
}

// connect is the Dial function of a net.Resolver.
func (t *trace) connect(ctx context.Context, network, server string) (net.Conn, error) {
	if t.isOver() {
		return nil, errOver
	}
	if err := t.servers.skipReason(server); err != nil {
		t.addProblem(nil, server, err)
		return nil, err
	}
	made, err := t.dial(ctx, network, server)
	if err != nil {
		t.onFailure(nil, server, err)
		return nil, err
	}
	c := &conn{Conn: made, trace: t, server: server}
	udp, isPacket := made.(net.PacketConn)
	c.isPacket = isPacket
	t.mu.Lock()
	c.isFollowUp = hasPassed(t.questionEnd)
	t.open[c] = true
	t.mu.Unlock()
	if isPacket {
		return packetConn{c, udp}, nil
	}
	return c, nil
}

func (t *trace) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return hasPassed(t.lookupEnd)
}

// isLate reports whether the trace has ended open questions.
func (t *trace) isLate() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return hasPassed(t.questionEnd)
}

func hasPassed(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// end ends open questions.
func (t *trace) end() {
	if t == nil {
		return
	}
	t.stop()
	t.limit(0)
}

// limit ends open questions after grace, and the lookup after twice that, unless they
// end earlier.
func (t *trace) limit(grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.questionEnd = earlier(t.questionEnd, now.Add(grace))
	t.lookupEnd = earlier(t.lookupEnd, now.Add(2*grace))
	for c := range t.open {
		_ = c.Conn.SetDeadline(c.deadlineLocked())
	}
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// onQuestion records a question to a server.
func (t *trace) onQuestion(server string, q dnsmessage.Question) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := t.questions[q.Type]; last == nil || last.name != q.Name.String() {
		t.questions[q.Type] = &question{name: q.Name.String()}
	}
	t.questions[q.Type].server = server
}

// onAnswer records a message that answers c's question.
func (t *trace) onAnswer(c *conn, p *dnsmessage.Parser, h dnsmessage.Header) {
	ttl, hasFound, err := parseTTL(p, c.question.Type)
	switch {
	case h.Truncated && c.isPacket:
		return // package net asks again over TCP
	case err != nil:
		err = fmt.Errorf("malformed answer: %w", err)
	case h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError:
		err = fmt.Errorf("it says %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	t.servers.onAnswer(c.server)
	if err != nil {
		t.onFailure(c, c.server, err)
	}
	// Servers that do not know a family may refuse it.
	isDeclined := h.RCode == dnsmessage.RCodeRefused || h.RCode == dnsmessage.RCodeNotImplemented
	if err != nil && !isDeclined {
		return
	}
	t.mu.Lock()
	if q := t.questions[c.question.Type]; q != nil {
		q.isAnswered = true
	}
	if hasFound && (t.ttl == 0 || ttl < t.ttl) {
		t.ttl = ttl
	}
	t.mu.Unlock()
	if hasFound {
		t.limit(familyGrace)
	}
}

// parseTTL returns how long the answers of a message hold, and whether one is of the
// wanted type.
func parseTTL(p *dnsmessage.Parser, wanted dnsmessage.Type) (ttl time.Duration, hasFound bool, err error) {
	if err := p.SkipAllQuestions(); err != nil {
		return 0, false, err
	}
	ttl = maxTTL
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return ttl, hasFound, nil
		}
		if err == nil {
			err = p.SkipAnswer()
		}
		if err != nil {
			return 0, false, err
		}
		ttl, hasFound = min(ttl, boundTTL(h.TTL)), hasFound || h.Type == wanted
	}
}

// onFailure records that a server failed c, nil for a failed connect. A server that was
// not waited for has not failed.
func (t *trace) onFailure(c *conn, server string, err error) {
	if t.isOver() {
		err = errOver
	}
	var errno syscall.Errno
	var late net.Error
	switch {
	case errors.As(err, &errno):
		err = errno
	case errors.As(err, &late) && late.Timeout():
		err = errNoAnswer
	}
	if err == errNoAnswer && !t.isLate() || errno != 0 {
		t.servers.onFailure(server, err)
	}
	t.addProblem(c, server, err)
}

func (t *trace) addProblem(c *conn, server string, err error) {
	if err == errOver {
		return
	}
	err = fmt.Errorf("name server %s: %w", server, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if c != nil {
		if q := t.questions[c.question.Type]; q != nil {
			q.problem = err
		}
	}
	if text := err.Error(); !slices.Contains(t.problems, text) {
		t.problems = append(t.problems, text)
	}
}

// foundTTL returns how long the found records hold, 0 if unknown.
func (t *trace) foundTTL() time.Duration {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ttl
}

// unanswered returns an error if addresses of a family were asked for and no server
// answered.
func (t *trace) unanswered(isIP6 bool) error {
	kind, word := dnsmessage.TypeA, "A (IPv4)"
	if isIP6 {
		kind, word = dnsmessage.TypeAAAA, "AAAA (IPv6)"
	}
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.questions[kind]
	switch {
	case q == nil || q.isAnswered:
		return nil
	case q.problem == nil: // the lookup stopped waiting
		return fmt.Errorf("question for %s records: name server %s: %w", word, q.server, errNoAnswer)
	}
	return fmt.Errorf("question for %s records: %w", word, q.problem)
}

// explain adds to the error of a lookup which servers failed, and how.
func (t *trace) explain(name string, err error) error {
	if t == nil || isNotFound(err) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.problems) == 0 {
		return err
	}
	return fmt.Errorf("lookup %s: %s", name, strings.Join(t.problems, "; "))
}
