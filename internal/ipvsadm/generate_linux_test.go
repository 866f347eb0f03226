package ipvsadm_test

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// option is one of a command line, before it has a spelling.
type option struct {
	short, long string
	value       string
	hasValue    bool
}

func flag(short, long string) option        { return option{short: short, long: long} }
func with(short, long, value string) option { return option{short, long, value, true} }

// generator makes command lines: most are right, many almost. They are about a few services.
type generator struct {
	*rand.Rand
	services [][]option
}

func newGenerator(seed uint64) generator {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 13))}
	all := [][]option{
		{with("t", "tcp-service", "1.2.3.4:80")},
		{with("t", "tcp-service", "192.168.100.200:443")},
		{with("t", "tcp-service", "[2001:db8::1]:443")},
		{with("u", "udp-service", "10.96.0.10:53")},
		{with("u", "udp-service", "1.1.1.1:domain")},
		{with("t", "tcp-service", "www.example:http")},
		{with("t", "tcp-service", "10.0.0.9")},
		{with("t", "tcp-service", "10.0.0.9:0")},
		{with("", "sctp-service", "10.0.0.2:9")},
		{with("f", "fwmark-service", "7")},
		{with("f", "fwmark-service", "3000000000")},
		{with("f", "fwmark-service", "8"), flag("6", "ipv6")},
	}
	for range 3 {
		g.services = append(g.services, pick(g, all...))
	}
	return g
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// oneIn is true once in n.
func (g generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g generator) service() []option {
	if g.oneIn(12) {
		return pick(g,
			[]option{},
			[]option{with("t", "tcp-service", pick(g, "", ":80", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:70000", "1.2.3.4:-1", "1.2.3.4:80:90", "nowhere.example:80", "300.1.1.1:80", "[::1:80", "[::1]", "[::1]x80", "::1:80", "2001:db8::1", "1.2.3:80", "0x7f.1:80", "six.example:80", "[www.example]:80"))},
			[]option{with("f", "fwmark-service", pick(g, "0", "x", "-1", "0x10", "010", "4294967295", "4294967296", " 7", "7 ", "+7", ""))},
			[]option{flag("6", "ipv6"), with("f", "fwmark-service", "8")},
			[]option{with("t", "tcp-service", "1.2.3.4:80"), with("u", "udp-service", "1.2.3.4:80")},
			[]option{with("t", "tcp-service", "1.2.3.4:80"), flag("6", "ipv6")},
			[]option{flag("6", "ipv6")},
		)
	}
	return slices.Clone(pick(g, g.services...))
}

func (g generator) serviceOptions() []option {
	var o []option
	if !g.oneIn(4) {
		o = append(o, with("s", "scheduler", pick(g, "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos", "sh", "mh", "none", "no", "averyveryverylongname", "")))
	}
	if g.oneIn(3) {
		o = append(o, pick(g, flag("p", "persistent"), with("p", "persistent", pick(g, "1", "300", "86400", "2678400", "2678401", "0", "-5", "x", "0x20", "007"))))
	}
	if g.oneIn(5) {
		o = append(o, with("M", "netmask", pick(g, "255.255.255.0", "255.255.255.255", "255.0.0.0", "64", "128", "1", "0", "129", "-1", "24", "0.0.0.0", "x", "255.255.255", "64x")))
	}
	if g.oneIn(8) {
		o = append(o, with("", "pe", pick(g, "sip", "none", "")))
	}
	if g.oneIn(6) {
		o = append(o, flag("o", "ops"))
	}
	if g.oneIn(5) {
		o = append(o, with("b", "sched-flags", pick(g, "sh-fallback", "sh-port", "sh-fallback,sh-port", "mh-fallback", "mh-port", "mh-port,mh-fallback", "flag-1", "flag-2,flag-3", "flag-1,flag-1", "foo", "", "sh-port,", "sh-portx", "flag-1,sh-port")))
	}
	return o
}

func (g generator) server() []option {
	if g.oneIn(15) {
		return pick(g, []option{}, []option{with("r", "real-server", pick(g, "", ":80", "10.0.0.5:x", "nowhere.example", "10.0.0.5:70000", "[2001:db8::10]", "224.0.0.1:80", "0.0.0.0:80", "255.255.255.255:80", "[ff02::1]:80", "[fe80::1]:80", "[::]:80"))})
	}
	return []option{with("r", "real-server", pick(g, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:8080", "10.0.0.1", "10.0.0.1:0", "db.example:http", "db.example", "[2001:db8::10]:80", "[2001:db8::11]:8080", "192.168.7.7:443"))}
}

func (g generator) serverOptions() []option {
	var o []option
	switch g.IntN(5) {
	case 0:
	case 1:
		o = append(o, flag("g", "gatewaying"))
	case 2:
		o = append(o, flag("i", "ipip"))
	default:
		o = append(o, flag("m", "masquerading"))
	}
	if g.oneIn(8) {
		o = append(o, with("", "tun-type", pick(g, "ipip", "gue", "gre", "GUE", "x")))
		if g.oneIn(2) {
			o = append(o, with("", "tun-port", pick(g, "6080", "0", "65535", "65536", "x")))
		}
		if g.oneIn(2) {
			o = append(o, pick(g, flag("", "tun-nocsum"), flag("", "tun-csum"), flag("", "tun-remcsum")))
		}
	}
	if g.oneIn(2) {
		o = append(o, with("w", "weight", pick(g, "0", "1", "2", "100", "65535", "65536", "2147483647", "2147483648", "-1", "x", "1x", "", " 3", "010", "0x10")))
	}
	if g.oneIn(4) {
		o = append(o, with("x", "u-threshold", pick(g, "0", "10", "1000", "70000", "2147483647", "4294967295", "-1", "x")))
	}
	if g.oneIn(5) {
		o = append(o, with("y", "l-threshold", pick(g, "0", "5", "800", "70000", "4294967295", "-1", "x")))
	}
	return o
}

func (g generator) listOptions() []option {
	var o []option
	if !g.oneIn(4) {
		o = append(o, flag("n", "numeric"))
	}
	for range g.IntN(3) {
		o = append(o, pick(g, flag("", "stats"), flag("", "rate"), flag("", "exact"), flag("", "thresholds"), flag("", "persistent-conn"), flag("", "tun-info"), flag("", "nosort"), flag("", "sort"), flag("", "timeout"), flag("c", "connection"), flag("", "daemon")))
	}
	if g.oneIn(4) {
		o = append(o, g.service()...)
	}
	return o
}

// command returns a command's own option and what comes with it.
func (g generator) command() (option, []option) {
	switch n := g.IntN(40); {
	case n < 8:
		return flag("A", "add-service"), append(g.service(), g.serviceOptions()...)
	case n < 11:
		return flag("E", "edit-service"), append(g.service(), g.serviceOptions()...)
	case n < 13:
		return flag("D", "delete-service"), g.service()
	case n < 22:
		return flag("a", "add-server"), append(append(g.service(), g.server()...), g.serverOptions()...)
	case n < 25:
		return flag("e", "edit-server"), append(append(g.service(), g.server()...), g.serverOptions()...)
	case n < 27:
		return flag("d", "delete-server"), append(g.service(), g.server()...)
	case n < 33:
		return pick(g, flag("L", "list"), flag("l", "list")), g.listOptions()
	case n < 36:
		return flag("S", "save"), pick(g, nil, []option{flag("n", "numeric")})
	case n == 36:
		return flag("Z", "zero"), pick(g, nil, g.service())
	case n == 37:
		return pick(g, flag("C", "clear"), flag("h", "help"), flag("v", "version"), flag("", "start-daemon"), flag("", "stop-daemon")), nil
	default:
		return flag("", "set"), nil
	}
}

// line returns a command line.
func (g generator) line() []string {
	command, options := g.command()
	if g.oneIn(25) { // something that is not of this command
		_, more := g.command()
		options = append(options, more...)
	}
	if g.oneIn(40) {
		more, _ := g.command()
		options = append(options, more)
	}
	if g.oneIn(3) {
		g.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
	}
	words := g.spell(command)
	if command.long == "set" {
		for range pick(g, 0, 2, 3, 3, 3, 3, 3, 4) {
			words = append(words, pick(g, "0", "900", "120", "30", "2678400", "2678401", "-1", "x"))
		}
	}
	if strings.HasSuffix(command.long, "-daemon") && !g.oneIn(4) {
		words = append(words, pick(g, "master", "backup", "both"))
	}
	for _, o := range options {
		words = append(words, g.spell(o)...)
	}
	return g.disturb(words)
}

// spell writes an option in one of the ways that popt reads.
func (g generator) spell(o option) []string {
	isLong := o.short == "" || g.oneIn(5)
	switch {
	case !o.hasValue && isLong:
		return []string{"--" + o.long}
	case !o.hasValue:
		return []string{"-" + o.short}
	case isLong && g.oneIn(2):
		return []string{"--" + o.long + "=" + o.value}
	case isLong:
		return []string{"--" + o.long, o.value}
	case g.oneIn(10):
		return []string{"-" + o.short + "=" + o.value}
	case g.oneIn(6):
		return []string{"-" + o.short + o.value}
	}
	return []string{"-" + o.short, o.value}
}

// disturb joins letters, and sometimes makes a mistake.
func (g generator) disturb(words []string) []string {
	for len(words) > 1 && isLetters(words[0]) && isLetters(words[1]) && g.oneIn(2) {
		words = append([]string{words[0] + words[1][1:]}, words[2:]...)
	}
	if !g.oneIn(15) {
		return words
	}
	at := g.IntN(len(words))
	switch g.IntN(5) {
	case 0:
		return words[:len(words)-1]
	case 1:
		return append(words[:at:at], append([]string{pick(g, "word", "--", "-", "-q", "--what", "--numeric", "-n", "--sta", "-=", "--=x", "-n=", "--numeric=1", "")}, words[at:]...)...)
	case 2:
		return append(words[:at:at], words[at+1:]...)
	case 3:
		return append(words, words[at])
	}
	words[0], words[at] = words[at], words[0]
	return words
}

func isLetters(word string) bool {
	return len(word) >= 2 && word[0] == '-' && word[1] != '-' && !strings.ContainsAny(word, "=.:")
}

// stream returns lines for -R.
func (g generator) stream() string {
	var b strings.Builder
	for range 1 + g.IntN(30) {
		words := g.line()
		if g.oneIn(4) {
			words = append([]string{pick(g, "ipvsadm", "ipvsadm", "ipvsadm", "/sbin/ipvsadm", "#")}, words...)
		}
		b.WriteString(pick(g, "", "", "", " ", "\t") + strings.Join(words, pick(g, " ", " ", "  ", "\t")) + pick(g, "\n", "\n", "\n", " \n", "\n\n"))
	}
	return b.String()
}
