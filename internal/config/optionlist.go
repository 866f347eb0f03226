package config

import (
	"fmt"
	"strings"
)

// eachOption calls set for each KEY=VALUE of a list, up to the first error. Commas that no backslash precedes separate
// them. A key comes once, unless repeats allows more; kind is what errors call an option.
func eachOption(list, kind string, repeats func(key string) bool, set func(key, value string) error) error {
	given := make(map[string]bool)
	for rest, more := list, true; more; {
		var option string
		option, rest, more = cutUnescaped(rest, ',')
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			return fmt.Errorf("%s %q lacks its =VALUE", kind, option)
		}
		if given[key] && !repeats(key) {
			return fmt.Errorf("%s %s is there twice", kind, key)
		}
		given[key] = true
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// never is for lists in which each key comes once, always for those in which any may come again.
func never(string) bool  { return false }
func always(string) bool { return true }

// cutUnescaped is strings.Cut at a byte that no backslash precedes.
func cutUnescaped(s string, at byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
