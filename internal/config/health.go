package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Health describes the checks of a service's backends. The zero value and Kind "off" mean no checks. Texts of several
// words are kept in canonical form, so that values can be compared.
type Health struct {
	Kind string // one of healthKinds
	// Name is the target of the check. It is the name of dns, the path of http and https, and the service of grpc and
	// grpcs. For exec it is the program and its arguments.
	Name         string
	Send, Expect string // of udp: the bytes of a datagram, and those that a reply contains
	Script       string // of tcp and tcps: send=TEXT and expect=TEXT, each after a comma
	Method, Host string // of http and https
	Status       string // of http and https: 200-399; several with + between them
	Body         string // of http and https: what the body contains
	ServerName   string // of kinds over TLS
	CAFile       string
	SkipVerify   bool
	Proxy        bool // a check begins with a header of the PROXY protocol

	Port                         int           // port of the checks; 0: the backend's own port
	Interval, Timeout            time.Duration // of a backend that is up
	DownInterval, ChangeInterval time.Duration // of a down backend, and of one about to change; 0: Interval
	Rise, Fall                   int           // consecutive results that turn a backend up, down
}

// IsOff reports whether backends count as up without checks.
func (h Health) IsOff() bool { return h.Kind == "" || h.Kind == "off" }

// IsDeep reports whether a check proves more than that a process accepts connections.
func (h Health) IsDeep() bool { return !h.IsOff() && (h.Kind != "tcp" || h.Script != "") }

// String returns the canonical spec, which ParseHealth reads.
func (h Health) String() string {
	if h.IsOff() {
		return "off"
	}
	spec := h.Kind
	if h.Name != "" {
		spec += ":" + formatName(h.Kind, h.Name)
	}
	own, common := h.setters()
	for i, o := range slices.Concat(own, common) {
		text := o.get()
		switch {
		case text == "":
		case spec == h.Kind && i < len(own) && slices.Contains(scripted, h.Kind):
			spec += ":" + text
		default:
			spec += "," + text
		}
	}
	return spec
}

// ParseHealth reads off, or a kind with its target and options, separated by commas. The first option after tcp, tcps
// and udp may follow a colon. The timeout is at most the interval, its default too.
func ParseHealth(spec string) (Health, error) {
	for _, kind := range scripted {
		if options, ok := strings.CutPrefix(spec, kind+":"); ok {
			spec = kind + "," + options
		}
	}
	head, rest, more := cutUnescaped(spec, ',')
	if hasKind(spec, "exec") {
		var err error
		if head, rest, more, err = cutCommand(spec); err != nil {
			return Health{}, fmt.Errorf("health check exec: %w", err)
		}
	}
	h := defaultHealth(TCP)
	kind, name, named := strings.Cut(head, ":")
	h.Kind = kind
	switch {
	case head == "off" && more:
		return Health{}, fmt.Errorf("health check off takes no options, not %q", rest)
	case head == "off":
		return Health{Kind: "off"}, nil
	case !slices.Contains(healthKinds, kind):
		return Health{}, fmt.Errorf("unknown health check %q%s", head, OrHave(kind, healthKinds))
	}
	if err := h.setName(name, named); err != nil {
		return Health{}, err
	}
	h.Timeout = 0
	if more {
		own, common := h.setters()
		if err := setEach(rest, "health option", slices.Concat(own, common)...); err != nil {
			return Health{}, err
		}
	}
	var err error
	if h.Timeout, err = fitTimeout("health option", h.Timeout, defaultHealth(TCP).Timeout, h.Interval); err != nil {
		return Health{}, err
	}
	if _, err := h.Checker(); err != nil {
		return Health{}, fmt.Errorf("health check %s: %w", h.Kind, err)
	}
	return h, nil
}

// hasKind reports whether a spec is of a kind, whatever follows it.
func hasKind(spec, kind string) bool {
	rest, ok := strings.CutPrefix(spec, kind)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == ',')
}

// setters read and write the options that may follow the kind: its own, and those of all kinds.
func (h *Health) setters() (own, common []setter) {
	text := func(key string, at *string) setter { return healthOption(key, at, parsePayload, formatPayload) }
	every := func(key string, at *time.Duration, least time.Duration) setter {
		return healthOption(key, at, duration(least), Delay)
	}
	count := func(key string, at *int, most int) setter {
		return healthOption(key, at, number(1, most), strconv.Itoa)
	}
	switch h.Kind {
	case "tcp", "tcps":
		own = []setter{h.step("send", &h.Script), h.step("expect", new(string))}
	case "udp":
		own = []setter{text("send", &h.Send), text("expect", &h.Expect)}
	case "http", "https":
		own = []setter{text("method", &h.Method), text("host", &h.Host), text("status", &h.Status), text("expect", &h.Body)}
	case "grpc", "grpcs":
		own = []setter{text("host", &h.Host)}
	}
	if slices.Contains(secured, h.Kind) {
		own = append(own, text("sni", &h.ServerName), text("ca", &h.CAFile),
			healthOption("verify", &h.SkipVerify, either("on", "off"), func(bool) string { return "off" }))
	}
	return append(own, count("port", &h.Port, math.MaxUint16)), []setter{
		h.proxy(),
		every("interval", &h.Interval, minInterval),
		every("interval-down", &h.DownInterval, minInterval),
		every("interval-change", &h.ChangeInterval, minInterval),
		every("timeout", &h.Timeout, minTimeout),
		count("rise", &h.Rise, maxCount),
		count("fall", &h.Fall, maxCount),
	}
}

// healthOption is for a variable that is written unless it is zero.
func healthOption[T comparable](key string, at *T, parse func(string) (T, error), format func(T) string) setter {
	return setter{key: key, set: into(at, parse), get: func() string {
		if *at == *new(T) {
			return ""
		}
		return key + "=" + format(*at)
	}}
}

// proxy is the bare word that has checks begin with a header of the PROXY protocol.
func (h *Health) proxy() setter {
	return setter{key: "proxy", isBare: true, get: func() string {
		if !h.Proxy {
			return ""
		}
		return "proxy"
	}, set: func(string) error {
		if h.Kind == "exec" {
			return errors.New("it is for checks that connect; a program sends what it needs itself")
		}
		h.Proxy = true
		return nil
	}}
}

// step is one of a script's steps. All of them are written at once.
func (h *Health) step(key string, written *string) setter {
	canonical := canonicalExpect
	if key == "send" {
		canonical = func(word string) (string, error) {
			text, err := parsePayload(word)
			return formatPayload(text), err
		}
	}
	return setter{key: key, repeats: true, get: func() string { return *written }, set: func(word string) error {
		text, err := canonical(word)
		h.Script = strings.TrimPrefix(h.Script+","+key+"="+text, ",")
		return err
	}}
}
