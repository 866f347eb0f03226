package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/health"
)

// healthKinds are the first words of a spec; off is no check.
var healthKinds = []string{"off", "tcp", "tcps", "http", "https", "grpc", "grpcs", "exec", "udp", "dns", "auto"}

// scripted are the kinds whose first option may follow a colon.
var scripted = []string{"tcp", "tcps", "udp"}

// secured are the kinds over TLS.
var secured = []string{"tcps", "https", "grpcs"}

// setName reads the text behind the colon of a kind.
func (h *Health) setName(word string, given bool) (err error) {
	switch h.Kind {
	case "dns":
		if !given {
			return errors.New("health check dns lacks the name to ask for, as in dns:example.com")
		}
		h.Name = word
		return nil
	case "exec":
		if strings.TrimSpace(word) == "" {
			return errors.New("health check exec lacks the program to run, as in exec:/usr/bin/check -v")
		}
		args, err := splitArgs(word)
		if err != nil {
			return fmt.Errorf("health check exec: %w", err)
		}
		if h.Name, err = joinArgs(args); err != nil {
			return fmt.Errorf("health check exec: %w", err)
		}
		return nil
	case "http", "https", "grpc", "grpcs":
		if word == "" {
			return nil
		}
		if h.Name, err = parsePayload(word); err != nil {
			return fmt.Errorf("health check %s: %w", h.Kind, err)
		}
		if strings.HasPrefix(h.Name, "//") || h.Kind[0] == 'h' && h.Name[0] != '/' {
			return fmt.Errorf("health check %s: %q is not a path, as in %s:/health (host=NAME says another host)", h.Kind, h.Name, h.Kind)
		}
		return nil
	}
	if given {
		return fmt.Errorf("unknown health check %q%s", h.Kind+":"+word, OrHave(h.Kind, healthKinds))
	}
	return nil
}

// formatName writes the text that setName reads.
func formatName(kind, name string) string {
	if kind == "dns" || kind == "exec" {
		return name
	}
	return formatPayload(name)
}

// Checker returns the checker of the backends. The error says which part of the spec is impossible.
func (h Health) Checker() (health.Checker, error) {
	secure, err := h.tls()
	if err != nil {
		return nil, err
	}
	switch h.Kind {
	case "tcp", "tcps":
		if h.Kind == "tcp" && h.Script == "" {
			return health.TCP{}, nil
		}
		steps, err := h.steps()
		if err != nil {
			return nil, err
		}
		return health.NewSendExpect(steps, secure)
	case "http", "https":
		o := health.HTTPOptions{Method: h.Method, Host: h.Host, Path: h.Name, Expect: h.Body, TLS: secure}
		for _, word := range strings.Split(h.Status, "+") {
			if h.Status == "" {
				break
			}
			r, err := health.ParseStatusRange(word)
			if err != nil {
				return nil, err
			}
			o.Status = append(o.Status, r)
		}
		return health.NewHTTP(o)
	case "grpc", "grpcs":
		return health.NewGRPC(health.GRPCOptions{Service: h.Name, Authority: h.Host, TLS: secure})
	case "exec":
		args, err := splitArgs(h.Name)
		if err != nil {
			return nil, err
		}
		return health.NewExec(args)
	case "udp", "auto":
		return health.UDP{Send: h.Send, Expect: h.Expect}, nil
	case "dns":
		return health.NewDNS(h.Name)
	}
	return nil, fmt.Errorf("no health check %q", h.Kind)
}

// tls is nil for kinds without TLS.
func (h Health) tls() (*health.TLS, error) {
	if !slices.Contains(secured, h.Kind) {
		return nil, nil
	}
	return health.NewTLS(health.TLSOptions{ServerName: h.ServerName, CAFile: h.CAFile, SkipVerify: h.SkipVerify})
}

// steps parses a script again.
func (h Health) steps() (steps []health.Step, err error) {
	if h.Script == "" {
		return nil, nil
	}
	add := func(step health.Step, err error) error {
		steps = append(steps, step)
		return err
	}
	err = setEach(h.Script, "step",
		setter{key: "send", repeats: true, set: func(word string) error {
			text, err := parsePayload(word)
			return add(health.Step{Send: text}, err)
		}},
		setter{key: "expect", repeats: true, set: func(word string) error { return add(parseExpect(word)) }})
	return steps, err
}

// parseExpect reads [^]TEXT[|TEXT...]: one of several texts, which must come next if ^ stands before them. \| and \^ are
// those characters.
func parseExpect(word string) (s health.Step, err error) {
	if rest, ok := strings.CutPrefix(word, "^"); ok {
		s.Anchored, word = true, rest
	}
	for rest, more := word, true; more; {
		var part string
		part, rest, more = cutUnescaped(rest, '|')
		text, err := parsePayload(strings.NewReplacer(`\\`, `\\`, `\|`, "|", `\^`, "^").Replace(part))
		if err != nil {
			return health.Step{}, err
		}
		s.Expect = append(s.Expect, text)
	}
	return s, nil
}

// canonicalExpect returns the one form of a text that parseExpect reads.
func canonicalExpect(word string) (string, error) {
	s, err := parseExpect(word)
	if err != nil {
		return "", err
	}
	texts := make([]string, len(s.Expect))
	for i, t := range s.Expect {
		texts[i] = strings.ReplaceAll(formatPayload(t), "|", `\|`)
		if i == 0 && strings.HasPrefix(texts[i], "^") {
			texts[i] = `\` + texts[i]
		}
	}
	out := strings.Join(texts, "|")
	if s.Anchored {
		out = "^" + out
	}
	return out, nil
}
