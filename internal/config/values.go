package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/balancer"
	"usher/health"
)

// Queue is where clients wait while every backend is at its maximum of flows.
type Queue struct {
	Length  int // 0: no queue
	Timeout time.Duration
}

// String returns the canonical word, which parseQueue reads.
func (q Queue) String() string {
	if q.Length == 0 {
		return "off"
	}
	return strconv.Itoa(q.Length) + "," + Delay(q.Timeout)
}

// parseQueue reads off or LENGTH,DURATION.
func parseQueue(word string) (q Queue, err error) {
	if word == "off" {
		return Queue{}, nil
	}
	length, timeout, ok := strings.Cut(word, ",")
	if !ok {
		return Queue{}, fmt.Errorf("%q is not LENGTH,DURATION, as in 100,5s", word)
	}
	if q.Length, err = number(1, maxCount)(length); err != nil {
		return Queue{}, err
	}
	q.Timeout, err = duration(minTimeout)(timeout)
	return q, err
}

// TerminationPolicy says how the flows of a backend end that is down, drains, or is removed.
type TerminationPolicy struct {
	How   string        // keep, fin or reset
	After time.Duration // how long they may continue before
}

// String returns the canonical word, which parseTermination reads.
func (t TerminationPolicy) String() string {
	if t.After == 0 {
		return t.How
	}
	return t.How + "," + Delay(t.After)
}

// parseTermination reads keep, fin or reset. With the last two it reads how long the flows may continue before, as in
// reset,30s.
func parseTermination(word string) (t TerminationPolicy, err error) {
	how, after, delayed := strings.Cut(word, ",")
	if t.How, err = oneOf("keep", "fin", "reset")(how); err != nil || !delayed {
		return t, err
	}
	if t.How == "keep" {
		return TerminationPolicy{}, fmt.Errorf("keep takes no time: flows end by themselves (leave out %s)", after)
	}
	t.After, err = parseDelay(after)
	return t, err
}

// Age bounds how long a flow may last.
type Age struct {
	Max    time.Duration // 0: for ever
	Jitter int           // in percent of Max, more or less
}

const defaultAgeJitter = 10

// String returns the canonical word, which parseAge reads.
func (a Age) String() string {
	if a.Max == 0 {
		return "off"
	}
	return fmt.Sprintf("%s,jitter=%d%%", Delay(a.Max), a.Jitter)
}

// parseAge reads off or DURATION[,jitter=PERCENT].
func parseAge(word string) (Age, error) {
	a := Age{Jitter: defaultAgeJitter}
	return parseList(word, &a, into(&a.Max, duration(time.Second)),
		setter{key: "jitter", set: into(&a.Jitter, percent(0))})
}

// Eject is passive health: a backend with several failed flows in a row gets no new ones for a while.
type Eject struct {
	Failures int           // in a row; 0: off
	Time     time.Duration // of the first ejection; the next ones are longer
	Share    int           // of the backends, in percent, that may be ejected at once
}

// String returns the canonical word, which parseEject reads.
func (e Eject) String() string {
	if e.Failures == 0 {
		return "off"
	}
	return fmt.Sprintf("%d,time=%s,share=%d%%", e.Failures, Delay(e.Time), e.Share)
}

// parseEject reads off or FAILURES[,time=DURATION][,share=PERCENT]. The rest is as in health.DefaultOutlierPolicy.
func parseEject(word string) (Eject, error) {
	d := health.DefaultOutlierPolicy()
	e := Eject{Time: d.Base, Share: d.MaxShare}
	return parseList(word, &e, into(&e.Failures, number(1, maxCount)),
		setter{key: "time", set: into(&e.Time, duration(minInterval))},
		setter{key: "share", set: into(&e.Share, percent(1))})
}

// Agent describes the agent checks of a service's backends. Each agent reports the weight and the status of its own
// backend.
type Agent struct {
	Port              int    // of each backend's address; 0: only backends with an agent option have one
	Send              string // to each agent, first
	Interval, Timeout time.Duration
}

// String returns the canonical word, which parseAgent reads.
func (a Agent) String() string {
	if a.Port == 0 {
		return "off"
	}
	word := strconv.Itoa(a.Port)
	if a.Send != "" {
		word += ",send=" + formatPayload(a.Send)
	}
	return fmt.Sprintf("%s,interval=%s,timeout=%s", word, Delay(a.Interval), Delay(a.Timeout))
}

// parseAgent reads off or PORT[,send=TEXT][,interval=DURATION][,timeout=DURATION].
func parseAgent(word string) (Agent, error) {
	a := defaultAgent()
	if word == "off" {
		return a, nil
	}
	a.Timeout = 0
	_, err := parseList(word, &a, into(&a.Port, number(1, math.MaxUint16)),
		setter{key: "send", set: into(&a.Send, parsePayload)},
		setter{key: "interval", set: into(&a.Interval, duration(minInterval))},
		setter{key: "timeout", set: into(&a.Timeout, duration(minTimeout))})
	if err != nil {
		return Agent{}, err
	}
	a.Timeout, err = fitTimeout("option", a.Timeout, defaultAgent().Timeout, a.Interval)
	return a, err
}

// fitTimeout keeps a timeout within the interval. It refuses a longer one that is given, and shortens the default.
func fitTimeout(kind string, given, byDefault, interval time.Duration) (time.Duration, error) {
	if given > interval {
		return 0, fmt.Errorf("%s timeout: %s is longer than the interval of %s", kind, Delay(given), Delay(interval))
	}
	return cmp.Or(given, min(byDefault, interval)), nil
}

// Persist describes the affinity of clients to their backends.
type Persist struct {
	Timeout      time.Duration // after a client's last new flow; 0: not at all
	Bits4, Bits6 int           // of its address, which identify a client; 0: all
	// LeaveQuiesced and LeaveOverloaded let a client leave its backend. The first does when the backend has weight 0 or
	// drains, the second when it has reached its upper threshold. IPVS does neither.
	LeaveQuiesced, LeaveOverloaded bool
}

// String returns the canonical word, which parsePersist reads.
func (p Persist) String() string {
	if p.Timeout == 0 {
		return "off"
	}
	word := Delay(p.Timeout) + formatBits(p.Bits4, p.Bits6)
	if p.LeaveQuiesced {
		word += ",quiesced=leave"
	}
	if p.LeaveOverloaded {
		word += ",overloaded=leave"
	}
	return word
}

// parsePersist reads off or DURATION[/BITS[/BITS6]], then options: quiesced=stay|leave, overloaded=stay|leave.
func parsePersist(word string) (Persist, error) {
	var p Persist
	head := func(word string) (err error) {
		word, bits, masked := strings.Cut(word, "/")
		if p.Timeout, err = duration(time.Second)(word); err == nil && masked {
			p.Bits4, p.Bits6, err = parseBits(bits)
		}
		return err
	}
	return parseList(word, &p, head,
		setter{key: "quiesced", set: into(&p.LeaveQuiesced, either("stay", "leave"))},
		setter{key: "overloaded", set: into(&p.LeaveOverloaded, either("stay", "leave"))})
}

// parseList reads off, which leaves the zero value, or a head and options behind it.
func parseList[T any](word string, at *T, head func(string) error, options ...setter) (T, error) {
	if word == "off" {
		return *new(T), nil
	}
	word, rest, more := cutUnescaped(word, ',')
	err := head(word)
	if err == nil && more {
		err = setEach(rest, "option", options...)
	}
	return *at, err
}

// hashKeys are the words for what a hashing scheduler hashes.
var hashKeys = []string{"addr", "addr-port", "dst", "dst-port"}

// parseHashKey reads addr, addr-port, dst or dst-port, and how many bits of the address count. That is addr/24 or
// addr/24/64, of IPv4 and of IPv6. /24 alone means addr/24.
func parseHashKey(word string) (balancer.HashKey, error) {
	part, bits, masked := strings.Cut(word, "/")
	if part == "" && masked {
		part = "addr"
	}
	of := slices.Index(hashKeys, part)
	if of < 0 {
		return balancer.HashKey{}, fmt.Errorf("unknown hash key %q%s", part, OrHave(part, hashKeys))
	}
	k := balancer.HashKey{Of: balancer.KeyPart(of)}
	if !masked {
		return k, nil
	}
	four, six, err := parseBits(bits)
	k.Prefix4, k.Prefix6 = uint8(four), uint8(six)
	return k, err
}

// FormatHashKey writes what parseHashKey reads.
func FormatHashKey(k balancer.HashKey) string {
	if int(k.Of) >= len(hashKeys) {
		return "unknown"
	}
	return hashKeys[k.Of] + formatBits(int(k.Prefix4), int(k.Prefix6))
}

// parseBits reads how many bits of an address count: of IPv4, or of IPv4 and IPv6 as in 24/64. 0 means all.
func parseBits(word string) (four, six int, err error) {
	a, b, both := strings.Cut(word, "/")
	if four, err = number(1, 32)(a); err == nil && both {
		six, err = number(1, 128)(b)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("prefix /%s: %w", word, err)
	}
	return four, six, nil
}

func formatBits(four, six int) string {
	switch {
	case four == 0 && six == 0:
		return ""
	case six == 0:
		return "/" + strconv.Itoa(four)
	}
	return fmt.Sprintf("/%d/%d", cmp.Or(four, 32), six)
}

// parseBalance reads how many percent of its fair share a backend may have; 0 and off mean no bound.
func parseBalance(word string) (int, error) {
	if word == "off" {
		return 0, nil
	}
	n, err := number(0, maxCount)(strings.TrimSuffix(word, "%"))
	if err == nil && n > 0 && (n <= 100 || n > 100_000) {
		return 0, fmt.Errorf("%d is not a share over 100 (percent) and up to 100000", n)
	}
	return n, err
}

// parsePanic reads a share of backends; 0 and off disable it.
func parsePanic(word string) (int, error) {
	if word == "off" {
		return 0, nil
	}
	return percent(0)(word)
}

// formatShare formats a percentage; zero is off.
func formatShare(percent int) string {
	if percent == 0 {
		return "off"
	}
	return strconv.Itoa(percent) + "%"
}

// parseClientFlows reads a number, or off or 0, which remove the limit.
func parseClientFlows(word string) (int, error) {
	if word == "off" || word == "0" {
		return NoClientLimit, nil
	}
	return number(1, maxCount)(word)
}

func formatClientFlows(n int) string {
	if n == NoClientLimit {
		return "off"
	}
	return strconv.Itoa(n)
}

func formatDeny(drop bool) string {
	if drop {
		return "drop"
	}
	return "refuse"
}

func formatFail(closed bool) string {
	if closed {
		return "closed"
	}
	return "open"
}
