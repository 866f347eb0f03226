package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/go-sockaddr/template"
)

// expander turns a go-sockaddr template into text; template.Parse looks at this machine's interfaces, tests do not.
type expander func(input string) (string, error)

var _ expander = template.Parse

// expand evaluates the template in an address word, if there is one, and returns a word for each address it yields.
// What stands before the first {{ and after the last }} is kept around each of them, and IPv6 addresses get the
// brackets that they need there: `{{ GetPrivateIPs }}:80` yields "10.0.0.5:80" and "[fd00::5]:80".
//
// A template that yields nothing is an error: the ":80" that would be left of it means every address of the machine,
// which is the last thing that somebody who asked for the private one wants.
func (e expander) expand(word string) ([]string, error) {
	begin, end := strings.Index(word, "{{"), strings.LastIndex(word, "}}")
	if begin < 0 {
		return []string{word}, nil
	}
	if end < begin {
		return nil, fmt.Errorf("%q lacks the closing }} of its template", word)
	}
	head, input, tail := word[:begin], word[begin:end+2], word[end+2:]
	if strings.HasSuffix(head, "[") && strings.HasPrefix(tail, "]") {
		head, tail = strings.TrimSuffix(head, "["), strings.TrimPrefix(tail, "]")
	}
	text, err := e(input)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", input, shorten(err))
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || strings.HasPrefix(fields[0], ":") && !isIP(fields[0]) {
		return nil, fmt.Errorf("template %s yields no address on this machine", input)
	}
	words := make([]string, len(fields))
	for i, f := range fields {
		if ip, err := netip.ParseAddr(f); err == nil && ip.Is6() {
			f = "[" + f + "]"
		}
		words[i] = head + f + tail
	}
	return words, nil
}

// shorten takes what the user can use from a template's error: "function "Foo" not defined" out of
// `unable to parse template "…": template: sockaddr.Parse:1: function "Foo" not defined`.
func shorten(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if _, tail, ok := strings.Cut(text, "sockaddr.Parse:"); ok {
		if _, what, ok := strings.Cut(tail, ": "); ok {
			text = what
		}
	}
	return errors.New(text)
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
