package config

import (
	"errors"
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

// ParseHealth reads off, or tcp[,interval=DUR][,timeout=DUR][,rise=N][,fall=N]. The timeout is at most the interval, its
// default too.
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
	given := make(map[string]bool)
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
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

func (h *Health) set(key, value string) (err error) {
	switch key {
	case "interval":
		h.Interval, err = parseDuration(value, minInterval)
	case "timeout":
		h.Timeout, err = parseDuration(value, minTimeout)
	case "rise":
		h.Rise, err = parseCount(value, maxCount)
	case "fall":
		h.Fall, err = parseCount(value, maxCount)
	default:
		return fmt.Errorf("unknown health option %q%s", key, orHave(key, healthOptions()))
	}
	if err != nil {
		return fmt.Errorf("health option %s: %w", key, err)
	}
	return nil
}

func healthOptions() []string { return []string{"interval", "timeout", "rise", "fall"} }

// maxCount bounds whole numbers that need no bound of their own.
const maxCount = 1_000_000_000

// parseCount reads a whole number from 1 to most.
func parseCount(word string, most int) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not a whole number", word)
	}
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is out of range (1 to %d)", word, most)
	}
	return n, nil
}
