package flags

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"usher/internal/config"
)

// defaultService is the service that a listen or backend flag without NAME= belongs to.
const defaultService = "default"

// splitName splits [NAME=]VALUE. An = inside {{ }}, or after an invalid name, belongs to the value. name is then empty,
// as in "tcp,interval=1s" and `{{ GetPrivateIP }}:80`.
func splitName(word string) (name, value string) {
	i := indexOutside(word, '=')
	if i < 0 || config.CheckName(word[:i]) != nil {
		return "", word
	}
	return word[:i], word[i+1:]
}

// mapping is the positional form LISTEN=BACKEND[,BACKEND...]: a whole service in a word. Its parts still contain their
// templates, and each backend its options.
type mapping struct {
	listen   string
	backends []string
}

// String returns the word that parseMapping read.
func (m mapping) String() string { return m.listen + "=" + strings.Join(m.backends, ",") }

// parseMapping splits a positional word at the first = and the commas outside {{ }}. An option of a backend after a
// comma belongs to the backend before it.
func parseMapping(word string) (mapping, error) {
	i := indexMapping(word)
	if strings.Count(word, "{{") > strings.Count(word, "}}") {
		return mapping{}, fmt.Errorf("%q lacks the closing }} of its template", word)
	}
	if i < 0 {
		return mapping{}, fmt.Errorf("%q is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002", word)
	}
	m := mapping{listen: word[:i]}
	if m.listen == "" {
		return mapping{}, fmt.Errorf("%q lacks the address to listen on before =", word)
	}
	for rest, more := word[i+1:], true; more; {
		part := rest
		if comma := indexOutside(rest, ','); comma >= 0 {
			part, rest = rest[:comma], rest[comma+1:]
		} else {
			more = false
		}
		last := len(m.backends) - 1
		name, _, valued := strings.Cut(part, "=")
		switch isOption := last >= 0 && config.IsBackendOption(part); {
		case isOption && valued && isPort(name):
			return mapping{}, fmt.Errorf("%s: a blank stands between services (did you mean %s %s?)", word, m, part)
		case isOption && !valued && part != "backup":
			return mapping{}, fmt.Errorf("%s: backend option %s lacks its =VALUE (a host of that name is written with its port)", word, part)
		case isOption:
			m.backends[last] += "," + part
		default:
			m.backends = append(m.backends, part)
		}
	}
	for _, b := range m.backends {
		if b == "" {
			return mapping{}, fmt.Errorf("%q lacks a backend address", word)
		}
	}
	return m, nil
}

func isPort(word string) bool {
	_, err := strconv.ParseUint(word, 10, 16)
	return err == nil
}

// name is the name of the mapping's service. It is the listen word without its network, with every run of invalid
// letters turned into one dash. "8080", ":8080" and "tcp:8080" all give "8080", "127.0.0.1:80" gives "127.0.0.1-80",
// "[::1]:80" gives "0-1-80". Udp stays, so that one port may have a service of each: "udp:53" and "udp://:53" give
// "udp-53". The name does not depend on the rest of the command line.
func (m mapping) name() string {
	word := m.listen
	for _, network := range []string{config.TCP, config.UDP, config.Unix} {
		if rest, ok := strings.CutPrefix(word, network+":"); ok {
			word = strings.TrimPrefix(rest, "//")
			break
		}
	}
	if l, err := config.ParseListener(m.listen); err == nil && l.Network == config.Unix {
		word = strings.Join([]string{l.Path, l.ServerName, l.Protocol, l.From}, ",")
	}
	if tail, ok := strings.CutPrefix(word, "[::"); ok && !strings.HasPrefix(tail, "]") {
		word = "0:" + tail // the zeros that :: stands for
	}
	if strings.HasPrefix(m.listen, config.UDP+":") {
		word = "udp:" + word
	}
	parts := strings.FieldsFunc(word, func(r rune) bool { return !strings.ContainsRune(config.NameLetters, r) })
	name := strings.TrimLeft(strings.Join(parts, "-"), "-_.")
	name = name[:min(len(name), config.MaxName)]
	if name == "" {
		return defaultService
	}
	return name
}

// indexMapping returns the index of the = that ends the address to listen on, or -1. It skips those of the listener's
// options.
func indexMapping(word string) int {
	options := []string{"sni", "alpn"}
	if strings.HasPrefix(word, "unix:") {
		options = append(options, "mode", "user", "group")
	}
	i := indexOutside(word, '=')
	for i >= 0 {
		comma := strings.LastIndexByte(word[:i], ',')
		name := word[comma+1 : i]
		next := indexOutside(word[i+1:], '=')
		if comma < 0 || next < 0 || strings.Contains(name, "=") || config.Nearest(name, options) == "" {
			return i
		}
		i += 1 + next
	}
	return i
}

// indexOutside is strings.IndexByte that skips the text inside {{ }}.
func indexOutside(s string, c byte) int {
	depth := 0
	for i := range len(s) {
		switch {
		case strings.HasPrefix(s[i:], "{{"):
			depth++
		case strings.HasPrefix(s[i:], "}}") && depth > 0:
			depth--
		case s[i] == c && depth == 0:
			return i
		}
	}
	return -1
}

// nameOrFallback splits [NAME=]ADDR.
func (b *builder) nameOrFallback(word string) (name, addr string) {
	name, addr = splitName(word)
	return cmp.Or(name, b.fallback), addr
}
