package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Health says how a service's backends are checked. The zero value, and Kind "off", mean not at all.
type Health struct {
	Kind              string // "off" or "tcp"
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
	return fmt.Sprintf("%s,interval=%s,timeout=%s,rise=%d,fall=%d", h.Kind, short(h.Interval), short(h.Timeout), h.Rise, h.Fall)
}

// ParseHealth reads off, or tcp[,interval=DUR][,timeout=DUR][,rise=N][,fall=N].
func ParseHealth(spec string) (Health, error) {
	kind, rest, more := strings.Cut(spec, ",")
	h := DefaultHealth()
	h.Kind = kind
	switch kind {
	case "off":
		if more {
			return Health{}, fmt.Errorf("health check off takes no options, not %q", rest)
		}
		return Health{Kind: "off"}, nil
	case "tcp":
	default:
		return Health{}, fmt.Errorf("unknown health check %q%s", kind, orHave(kind, []string{"off", "tcp"}))
	}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		if err := h.set(option); err != nil {
			return Health{}, err
		}
	}
	return h, nil
}

func (h *Health) set(option string) (err error) {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		return fmt.Errorf("health option %q lacks its =VALUE", option)
	}
	switch key {
	case "interval":
		h.Interval, err = parseDuration(value, minInterval)
	case "timeout":
		h.Timeout, err = parseDuration(value, time.Millisecond)
	case "rise":
		h.Rise, err = parseCount(value)
	case "fall":
		h.Fall, err = parseCount(value)
	default:
		return fmt.Errorf("unknown health option %q%s", key, orHave(key, healthOptions()))
	}
	if err != nil {
		return fmt.Errorf("health option %s: %w", key, err)
	}
	return nil
}

func healthOptions() []string { return []string{"interval", "timeout", "rise", "fall"} }

// parseCount reads a whole number from 1 to a billion.
func parseCount(word string) (int, error) {
	const most = 1_000_000_000
	n, err := strconv.Atoi(word)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", word)
	}
	if n < 1 || n > most {
		return 0, fmt.Errorf("%s is out of range (1 to %d)", word, most)
	}
	return n, nil
}
