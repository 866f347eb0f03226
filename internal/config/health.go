package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/health"
)

// Health says how a service's backends are checked. The zero value, and Kind "off", mean not at all.
type Health struct {
	Kind              string // "off", "tcp", "udp" or "dns"
	Send, Expect      string // of kind udp: the bytes of a datagram, and those that a reply contains
	Name              string // of kind dns: what is asked for
	Interval, Timeout time.Duration
	Rise, Fall        int // consecutive results that turn a backend up, down
}

// minInterval keeps a slip (1us for 1s) from becoming a flood of probes.
const minInterval = 10 * time.Millisecond

// DefaultHealth is a TCP connect every 2 s.
func DefaultHealth() Health {
	return Health{Kind: "tcp", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
}

// Off reports whether backends are taken to be up unseen.
func (h Health) Off() bool { return h.Kind == "" || h.Kind == "off" }

// String returns the canonical spec: ParseHealth of it yields the same Health.
func (h Health) String() string {
	if h.Off() {
		return "off"
	}
	spec := h.Kind
	if h.Name != "" {
		spec += ":" + h.Name
	}
	separator := ":"
	if h.Send != "" {
		spec += separator + "send=" + formatPayload(h.Send)
		separator = ","
	}
	if h.Expect != "" {
		spec += separator + "expect=" + formatPayload(h.Expect)
	}
	return fmt.Sprintf("%s,interval=%s,timeout=%s,rise=%d,fall=%d", spec, short(h.Interval), short(h.Timeout), h.Rise, h.Fall)
}

// ParseHealth reads off, tcp, udp or dns:NAME, then options, each after a comma: interval=DUR, timeout=DUR, rise=N,
// fall=N, and of udp send=PAYLOAD and expect=PAYLOAD. The first one after udp may follow a colon. The timeout is at most
// the interval, its default too.
func ParseHealth(spec string) (Health, error) {
	if options, ok := strings.CutPrefix(spec, "udp:"); ok {
		spec = "udp," + options
	}
	head, rest, more := cutOption(spec)
	h := DefaultHealth()
	kind, name, hasName := strings.Cut(head, ":")
	h.Kind = kind
	switch {
	case head == "off" && more:
		return Health{}, fmt.Errorf("health check off takes no options, not %q", rest)
	case head == "off":
		return Health{Kind: "off"}, nil
	case head == "tcp", head == "udp":
	case kind == "dns" && hasName:
		if _, err := health.NewDNS(name); err != nil {
			return Health{}, fmt.Errorf("health check dns: %w", err)
		}
		h.Name = name
	case kind == "dns":
		return Health{}, errors.New("health check dns lacks the name to ask for, as in dns:example.com")
	default:
		return Health{}, fmt.Errorf("unknown health check %q%s", head, orHave(head, []string{"off", "tcp", "udp", "dns"}))
	}
	given := make(map[string]bool)
	for more {
		var option string
		option, rest, more = cutOption(rest)
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			return Health{}, fmt.Errorf("health option %q lacks its =VALUE", option)
		}
		if given[key] {
			return Health{}, fmt.Errorf("health option %s is there twice", key)
		}
		given[key] = true
		if err := h.set(key, value); err != nil {
			return Health{}, err
		}
	}
	if !given["timeout"] {
		h.Timeout = min(h.Timeout, h.Interval)
	}
	if h.Timeout > h.Interval {
		return Health{}, fmt.Errorf("health option timeout: %s is longer than the interval of %s", short(h.Timeout), short(h.Interval))
	}
	return h, nil
}

// cutOption is strings.Cut at a comma that no backslash precedes.
func cutOption(s string) (option, rest string, more bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// hasKind reports whether a spec is of a kind, whatever follows it.
func hasKind(spec, kind string) bool {
	rest, ok := strings.CutPrefix(spec, kind)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == ',')
}

func (h *Health) set(key, value string) (err error) {
	if !slices.Contains(healthOptions(h.Kind), key) {
		return fmt.Errorf("unknown health option %q%s", key, orHave(key, healthOptions(h.Kind)))
	}
	switch key {
	case "send":
		h.Send, err = parsePayload(value)
	case "expect":
		h.Expect, err = parsePayload(value)
	case "interval":
		h.Interval, err = parseDuration(value, minInterval)
	case "timeout":
		h.Timeout, err = parseDuration(value, minTimeout)
	case "rise":
		h.Rise, err = parseNumber(value, 1, maxCount)
	case "fall":
		h.Fall, err = parseNumber(value, 1, maxCount)
	}
	if err != nil {
		return fmt.Errorf("health option %s: %w", key, err)
	}
	return nil
}

// healthOptions lists what may follow a kind.
func healthOptions(kind string) []string {
	common := []string{"interval", "timeout", "rise", "fall"}
	if kind == "udp" {
		return append([]string{"send", "expect"}, common...)
	}
	return common
}

// healthKindWith is how a spec may begin that has the option.
func healthKindWith(option string) string {
	if slices.Contains(healthOptions("tcp"), option) {
		return "tcp,"
	}
	return "udp:"
}

// maxCount bounds whole numbers that need no bound of their own.
const maxCount = 1_000_000_000

// parseNumber reads a whole number from least to most.
func parseNumber(word string, least, most int) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not a whole number", word)
	}
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s is out of range (%d to %d)", word, least, most)
	}
	return n, nil
}
