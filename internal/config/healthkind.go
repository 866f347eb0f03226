package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/health"
)

// healthKinds are what a spec may begin with; off is no check.
var healthKinds = []string{"off", "tcp", "tcps", "http", "https", "grpc", "grpcs", "exec", "udp", "dns"}

// scripted are the kinds whose first option may follow a colon.
var scripted = []string{"tcp", "tcps", "udp"}

// secured are the kinds that speak TLS.
var secured = []string{"tcps", "https", "grpcs"}

// healthOptions lists what may follow a kind.
func healthOptions(kind string) []string {
	var own []string
	switch kind {
	case "tcp", "tcps", "udp":
		own = []string{"send", "expect"}
	case "http", "https":
		own = []string{"method", "host", "status", "expect"}
	case "grpc", "grpcs":
		own = []string{"host"}
	}
	if slices.Contains(secured, kind) {
		own = append(own, "sni", "ca", "verify")
	}
	return append(own, "interval", "timeout", "rise", "fall", "port", "interval-down", "interval-change")
}

// scripts reports whether an option is a step of a script, of which there may be several.
func (h *Health) scripts(key string) bool {
	return (h.Kind == "tcp" || h.Kind == "tcps") && (key == "send" || key == "expect")
}

// setName takes what stands behind the colon of a kind.
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
		h.Name = joinArgs(args)
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
		return fmt.Errorf("unknown health check %q%s", h.Kind+":"+word, orHave(h.Kind, healthKinds))
	}
	return nil
}

// formatName writes what setName reads.
func formatName(kind, name string) string {
	if kind == "dns" || kind == "exec" {
		return name
	}
	return formatPayload(name)
}

// setText takes an option whose value is text.
func (h *Health) setText(key, value string) error {
	text, err := parsePayload(value)
	if h.scripts(key) {
		if key == "expect" {
			text, err = canonicalExpect(value)
		} else {
			text = formatPayload(text)
		}
		if h.Script != "" {
			h.Script += ","
		}
		h.Script += key + "=" + text
		return err
	}
	if err != nil {
		return err
	}
	switch key {
	case "send":
		h.Send = text
	case "expect":
		if h.Kind == "udp" {
			h.Expect = text
		} else {
			h.Body = text
		}
	case "method":
		h.Method = text
	case "host":
		h.Host = text
	case "status":
		h.Status = text
	case "sni":
		h.ServerName = text
	case "ca":
		h.CAFile = text
	}
	return nil
}

// Checker makes what checks the backends. The error says what of the spec cannot be.
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
	case "udp":
		return health.UDP{Send: h.Send, Expect: h.Expect}, nil
	case "dns":
		return health.NewDNS(h.Name)
	}
	return nil, fmt.Errorf("no health check %q", h.Kind)
}

// tls is nil for kinds that speak in the clear.
func (h Health) tls() (*health.TLS, error) {
	if !slices.Contains(secured, h.Kind) {
		return nil, nil
	}
	return health.NewTLS(health.TLSOptions{ServerName: h.ServerName, CAFile: h.CAFile, SkipVerify: h.SkipVerify})
}

// steps reads a script again.
func (h Health) steps() (steps []health.Step, err error) {
	if h.Script == "" {
		return nil, nil
	}
	err = eachOption(h.Script, "step", always, func(key, value string) (err error) {
		var step health.Step
		if key == "send" {
			step.Send, err = parsePayload(value)
		} else {
			step, err = parseExpect(value)
		}
		steps = append(steps, step)
		return err
	})
	return steps, err
}

// parseExpect reads [^]TEXT[|TEXT...]: one of several texts, which has to come next if ^ stands before them. \| and \^
// are those characters.
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

// canonicalExpect is what parseExpect reads, written in one way.
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

// splitArgs reads the words of a command: blanks separate them, and a backslash makes any character, a blank or a comma
// too, a part of its word. There is no shell.
func splitArgs(command string) (args []string, err error) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case c == '\\' && i+1 == len(command):
			return nil, errors.New(`nothing follows the last \`)
		case c == '\\':
			i++
			word.WriteByte(command[i])
			inWord = true
		case c == ' ' || c == '\t':
			if inWord {
				args = append(args, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		args = append(args, word.String())
	}
	return args, nil
}

func joinArgs(args []string) string {
	escape := strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", ",", `\,`)
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = escape.Replace(a)
	}
	return strings.Join(out, " ")
}
