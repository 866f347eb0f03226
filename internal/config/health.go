package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/health"
)

// Health says how a service's backends are checked. The zero value, and Kind "off", mean not at all. Texts that are
// made of several words are kept as they are written, in canonical form, so that two of these can be compared.
type Health struct {
	Kind string // one of healthKinds
	// Name is what is asked for: of dns the name, of http and https the path, of grpc and grpcs the service, of exec the
	// program and its arguments.
	Name         string
	Send, Expect string // of udp: the bytes of a datagram, and those that a reply contains
	Script       string // of tcp and tcps: send=TEXT and expect=TEXT, each after a comma
	Method, Host string // of http and https
	Status       string // of http and https: 200-399; several with + between them
	Body         string // of http and https: what the body contains
	ServerName   string // of those that speak TLS
	CAFile       string
	SkipVerify   bool

	Port                         int           // where a backend is checked; 0: at its own port
	Interval, Timeout            time.Duration // of a backend that is up
	DownInterval, ChangeInterval time.Duration // of one that is down, and of one about to change; 0: Interval
	Rise, Fall                   int           // consecutive results that turn a backend up, down
}

// minInterval keeps a slip (1us for 1s) from becoming a flood of probes.
const minInterval = 10 * time.Millisecond

// DefaultHealth is a TCP connect with the patience of health.DefaultPolicy.
func DefaultHealth() Health {
	d := health.DefaultPolicy()
	return Health{Kind: "tcp", Interval: d.Interval, Timeout: d.Timeout, Rise: d.Rise, Fall: d.Fall}
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
		spec += ":" + formatName(h.Kind, h.Name)
	}
	for _, o := range h.options() {
		separator := ","
		if spec == h.Kind && slices.Contains(scripted, h.Kind) {
			separator = ":"
		}
		spec += separator + o
	}
	return fmt.Sprintf("%s,interval=%s%s,timeout=%s,rise=%d,fall=%d", spec, short(h.Interval), h.intervals(), short(h.Timeout), h.Rise, h.Fall)
}

// options are those of the kind that are not at their default.
func (h Health) options() []string {
	var out []string
	add := func(name, value string) {
		if value != "" {
			out = append(out, name+"="+formatPayload(value))
		}
	}
	add("send", h.Send)
	add("expect", h.Expect)
	if h.Script != "" {
		out = append(out, h.Script)
	}
	add("method", h.Method)
	add("host", h.Host)
	add("status", h.Status)
	add("expect", h.Body)
	add("sni", h.ServerName)
	add("ca", h.CAFile)
	if h.SkipVerify {
		add("verify", "off")
	}
	if h.Port > 0 {
		add("port", strconv.Itoa(h.Port))
	}
	return out
}

func (h Health) intervals() string {
	s := ""
	if h.DownInterval > 0 {
		s += ",interval-down=" + short(h.DownInterval)
	}
	if h.ChangeInterval > 0 {
		s += ",interval-change=" + short(h.ChangeInterval)
	}
	return s
}

// ParseHealth reads off, or a kind with what it asks for, and options, each after a comma. The first one after tcp, tcps
// and udp may follow a colon. The timeout is at most the interval, its default too.
func ParseHealth(spec string) (Health, error) {
	for _, kind := range scripted {
		if options, ok := strings.CutPrefix(spec, kind+":"); ok {
			spec = kind + "," + options
		}
	}
	head, rest, more := cutUnescaped(spec, ',')
	h := DefaultHealth()
	kind, name, named := strings.Cut(head, ":")
	h.Kind = kind
	switch {
	case head == "off" && more:
		return Health{}, fmt.Errorf("health check off takes no options, not %q", rest)
	case head == "off":
		return Health{Kind: "off"}, nil
	case !slices.Contains(healthKinds, kind):
		return Health{}, fmt.Errorf("unknown health check %q%s", head, orHave(kind, healthKinds))
	}
	if err := h.setName(name, named); err != nil {
		return Health{}, err
	}
	timed := false
	if more {
		err := eachOption(rest, "health option", h.scripts, func(key, value string) error {
			timed = timed || key == "timeout"
			return h.set(key, value)
		})
		if err != nil {
			return Health{}, err
		}
	}
	if err := fitTimeout(&h.Timeout, h.Interval, timed); err != nil {
		return Health{}, fmt.Errorf("health option timeout: %w", err)
	}
	if _, err := h.Checker(); err != nil {
		return Health{}, fmt.Errorf("health check %s: %w", h.Kind, err)
	}
	return h, nil
}

// fitTimeout keeps a timeout within the interval: one that was given is refused beyond it, the default is shortened.
func fitTimeout(timeout *time.Duration, interval time.Duration, given bool) error {
	if given && *timeout > interval {
		return fmt.Errorf("%s is longer than the interval of %s", short(*timeout), short(interval))
	}
	*timeout = min(*timeout, interval)
	return nil
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
	case "interval":
		h.Interval, err = parseDuration(value, minInterval)
	case "interval-down":
		h.DownInterval, err = parseDuration(value, minInterval)
	case "interval-change":
		h.ChangeInterval, err = parseDuration(value, minInterval)
	case "timeout":
		h.Timeout, err = parseDuration(value, minTimeout)
	case "rise":
		h.Rise, err = parseNumber(value, 1, maxCount)
	case "fall":
		h.Fall, err = parseNumber(value, 1, maxCount)
	case "port":
		h.Port, err = parseNumber(value, 1, math.MaxUint16)
	case "verify":
		value, err = oneOf(value, "on", "off")
		h.SkipVerify = value == "off"
	default:
		err = h.setText(key, value)
	}
	if err != nil {
		return fmt.Errorf("health option %s: %w", key, err)
	}
	return nil
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
