//go:build linux

package conformance

import (
	"fmt"
	"strconv"
	"strings"
)

// BackendWord is a parsed entry of Config.Backends. Zero means that the word does not
// set it.
type BackendWord struct {
	Addr         string
	Weight       int // 1 unless set
	Backup       bool
	Max          int // flows at once, never more
	Upper, Lower int // no new flows from Upper on, until there are fewer than Lower
	Check        int // port where it is checked
	Agent        int // port of its agent
}

// ParseBackend reads ADDR[@WEIGHT][,OPTION...] in usher's syntax. It panics on other
// words: the case is wrong then.
func ParseBackend(word string) BackendWord {
	b := BackendWord{Weight: 1}
	word, options, more := strings.Cut(word, ",")
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			panic(fmt.Sprintf("backend %q: %v", word, err))
		}
		return n
	}
	addr, weight, weighted := strings.Cut(word, "@")
	if b.Addr = addr; weighted {
		b.Weight = number(weight)
	}
	for more {
		var option string
		option, options, more = strings.Cut(options, ",")
		switch key, value, _ := strings.Cut(option, "="); key {
		case "backup":
			b.Backup = true
		case "max":
			b.Max = number(value)
		case "upper":
			b.Upper = number(value)
		case "lower":
			b.Lower = number(value)
		case "check":
			b.Check = number(value)
		case "agent":
			b.Agent = number(value)
		default:
			panic(fmt.Sprintf("backend %q: no option %q", word, option))
		}
	}
	return b
}
