package flags

import (
	"slices"
	"strings"

	"usher/internal/config"
)

// guessMapping returns the LISTEN=BACKEND that word i most likely means, or "".
func guessMapping(words []string, i int) string {
	word := words[i]
	candidates := []string{strings.NewReplacer("=>", "=", "->", "=").Replace(word)}
	for at := range len(word) {
		if word[at] == ':' { // in the form of other programs: 8080:9001
			candidates = append(candidates, word[:at]+"="+word[at+1:])
		}
	}
	// Spaces may stand where they do not belong.
	rest := words[i:]
	switch {
	case len(rest) > 2 && rest[1] == "=":
		candidates = append(candidates, word+"="+rest[2])
	case len(rest) > 1 && strings.ContainsAny(word+rest[1][:min(1, len(rest[1]))], "=,"):
		candidates = append(candidates, word+rest[1])
	case len(rest) > 1:
		candidates = append(candidates, word+"="+rest[1])
	}
	if i > 0 {
		candidates = append(candidates, words[i-1]+","+word)
	}
	if at := slices.IndexFunc(candidates, isMapping); at >= 0 {
		return candidates[at]
	}
	return ""
}

// isMapping reports whether a word is LISTEN=BACKEND[,BACKEND...] in all its parts, without templates.
func isMapping(word string) bool {
	m, err := parseMapping(word)
	if err != nil {
		return false
	}
	l, err := config.ParseListener(m.listen)
	return err == nil && !slices.ContainsFunc(m.backends, func(b string) bool {
		_, err := config.ParseBackend(b, l.Network)
		return err != nil
	})
}

// takenValue returns the option, if any, whose value is LISTEN=BACKEND. Its own value is missing, so it took that word.
func takenValue(options []Option) (Option, bool) {
	i := slices.IndexFunc(options, func(o Option) bool { return isMapping(o.Value) })
	if i < 0 {
		return Option{}, false
	}
	return options[i], true
}
