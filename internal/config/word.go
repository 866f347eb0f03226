package config

import (
	"fmt"
	"strings"
)

// DefaultService is the service that a listen or backend flag without NAME= belongs to.
const DefaultService = "default"

// SplitName splits [NAME=]VALUE. An = inside {{ }} or after anything that cannot be a name belongs to the value, so that
// "tcp,interval=1s" and `{{ GetPrivateIP }}:80` need no quoting; name is then empty.
func SplitName(word string) (name, value string) {
	i := indexOutside(word, '=')
	if i < 0 || !isName(word[:i]) {
		return "", word
	}
	return word[:i], word[i+1:]
}

// isName reports whether s can be a service's name: letters, digits, dot, underscore and dash, a letter or digit first.
func isName(s string) bool {
	return s != "" && strings.Trim(s, nameLetters+".") == "" && strings.IndexByte("-_.", s[0]) < 0
}

// Mapping is the positional form LISTEN=BACKEND[,BACKEND...]: a whole service in a word. Its parts still hold their
// templates.
type Mapping struct {
	Listen   string
	Backends []string
}

// String returns the word that ParseMapping read.
func (m Mapping) String() string { return m.Listen + "=" + strings.Join(m.Backends, ",") }

// ParseMapping splits a positional word at the first = and the commas outside {{ }}.
func ParseMapping(word string) (Mapping, error) {
	i := indexOutside(word, '=')
	if strings.Count(word, "{{") > strings.Count(word, "}}") {
		return Mapping{}, fmt.Errorf("%q lacks the closing }} of its template", word)
	}
	if i < 0 {
		return Mapping{}, fmt.Errorf("%q is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002", word)
	}
	m := Mapping{Listen: word[:i]}
	if m.Listen == "" {
		return Mapping{}, fmt.Errorf("%q lacks the address to listen on before =", word)
	}
	for rest := word[i+1:]; ; {
		comma := indexOutside(rest, ',')
		if comma < 0 {
			m.Backends = append(m.Backends, rest)
			break
		}
		m.Backends = append(m.Backends, rest[:comma])
		rest = rest[comma+1:]
	}
	for _, b := range m.Backends {
		if b == "" {
			return Mapping{}, fmt.Errorf("%q lacks a backend address", word)
		}
	}
	return m, nil
}

// Name is the name of the service that the mapping makes: the listen word without its network, every run of letters
// that a name cannot have turned into one dash. "8080", ":8080" and "tcp:8080" all give "8080", "127.0.0.1:80" gives
// "127.0.0.1-80", "[::1]:80" gives "0-1-80". Udp stays, so that one port may have a service of each: "udp:53" and
// "udp://:53" give "udp-53". The name does not depend on what else is on the command line.
func (m Mapping) Name() string {
	network, word, err := cutNetwork(m.Listen, TCP)
	if err != nil {
		word = m.Listen
	}
	if tail, ok := strings.CutPrefix(word, "[::"); ok && !strings.HasPrefix(tail, "]") {
		word = "0:" + tail // the zeros that :: stands for
	}
	if network == UDP {
		word = "udp:" + word
	}
	parts := strings.FieldsFunc(word, func(r rune) bool { return !strings.ContainsRune(zoneLetters, r) })
	name := strings.TrimLeft(strings.Join(parts, "-"), "-_.")
	if name == "" {
		return DefaultService
	}
	return name
}

// indexOutside is strings.IndexByte that does not look inside {{ }}.
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
