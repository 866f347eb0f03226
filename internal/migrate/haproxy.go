package migrate

import (
	"strings"

	"usher/internal/config"
)

// haproxy is a text whose sections are known.
type haproxy struct {
	b        *builder
	defaults map[string]*section // by name; "" is the last one
	proxies  []*proxy
	backends map[string]*proxy // that listen is, too
}

// readHAProxy makes services of the frontends and listens of mode tcp.
func readHAProxy(b *builder, text string) error {
	h := &haproxy{b: b, defaults: make(map[string]*section), backends: make(map[string]*proxy)}
	b.reason = haproxyRest
	for _, s := range splitSections(&b.ledger, text) {
		h.readSection(s)
	}
	for _, p := range h.proxies {
		if p.kind != "backend" {
			h.serve(p)
		}
	}
	for _, p := range h.proxies {
		if p.kind == "backend" && p.mode == "tcp" && !p.isUsed {
			p.loseAll("no frontend of mode tcp uses this backend")
		}
	}
	return nil
}

// otherSections say why usher lacks what a section is for.
var otherSections = map[string]string{
	"resolvers":   "usher asks the name servers of /etc/resolv.conf, and looks names up again when their TTL ends",
	"peers":       "ushers share no tables: the schedulers mh, ring and hrw choose alike in each of them",
	"userlist":    "it is for mode http",
	"mailers":     "usher sends no mail: usher events and the metrics say what changes",
	"program":     "usher starts no other programs, checks apart (health: exec:PROGRAM): let systemd do it",
	"cache":       "it is for mode http",
	"http-errors": "it is for mode http",
	"ring":        "usher logs to stderr",
	"log-forward": "usher forwards syslog as it does all datagrams, with a udp service, and does not read it",
	"log-profile": "usher logs to stderr, for people or as JSON (log-format)",
	"fcgi-app":    "it is for mode http",
	"crt-store":   "usher passes TLS through, and needs no certificate",
	"traces":      "usher logs to stderr (log-level: debug)",
	"acme":        "usher passes TLS through, and needs no certificate",
}

func (h *haproxy) readSection(s *section) {
	switch s.kind {
	case "global":
		s.head.done()
		for _, at := range s.body {
			h.readGlobal(at)
		}
	case "defaults":
		s.defaults = h.defaults[from(s, "")]
		h.defaults[""] = s
		if s.name != "" && s.name != "from" {
			h.defaults[s.name] = s
		}
	case "frontend", "backend", "listen":
		s.defaults = h.defaults[from(s, "")]
		h.readProxy(s)
	default:
		note := h.b.lose
		if s.kind == "resolvers" {
			note = h.b.tell
		}
		for _, at := range append([]*statement{s.head}, s.body...) {
			note(at, "", "%s", otherSections[s.kind])
		}
	}
}

// from is the name of the defaults that the head of a section asks for.
func from(s *section, otherwise string) string {
	for i, w := range s.head.words {
		if w == "from" && i > 0 && i+1 < len(s.head.words) {
			return s.head.words[i+1]
		}
	}
	return otherwise
}

// readGlobal reads a line of the section global.
func (h *haproxy) readGlobal(at *statement) {
	b := h.b
	option := func(name, value string) {
		if err := b.process.Set(config.Field(name), value); err != nil {
			b.lose(at, "", "%s", reasonOf(err))
		}
		at.done()
	}
	switch word := at.words[0]; {
	case word == "maxconn":
		option("max-conns", at.has(1))
	case word == "nbthread":
		option("workers", at.has(1))
	case word == "hard-stop-after":
		d, err := haproxyTime(at.has(1))
		if err != nil {
			b.lose(at, "", "%v", err)
			return
		}
		option("drain-timeout", d.String())
	case globalReasons[word] != "":
		b.tell(at, "", "%s", globalReasons[word])
	case isHarmlessGlobal(word):
		at.done()
	default:
		b.lose(at, "", "%s", unknownDirective)
	}
}

// globalReasons say what does for usher what a line of the section global does.
var globalReasons = map[string]string{
	"log":                 "usher logs to stderr: systemd keeps it, and usher ... 2>&1 >/dev/null | logger passes it to syslog",
	"log-send-hostname":   "usher logs to stderr",
	"user":                "usher needs no root and stays who starts it (User= of a unit of systemd)",
	"group":               "usher needs no root and stays who starts it (User= of a unit of systemd)",
	"uid":                 "usher needs no root and stays who starts it (User= of a unit of systemd)",
	"gid":                 "usher needs no root and stays who starts it (User= of a unit of systemd)",
	"chroot":              "usher needs no root and does not lock itself in (RootDirectory= of a unit of systemd)",
	"stats":               "a running usher listens on a socket of its own (usher help control)",
	"ulimit-n":            "usher raises its limit of descriptors by itself, up to the hard one (ulimit -n)",
	"nbproc":              "usher is one process with several event loops (workers)",
	"cpu-map":             "usher does not bind its threads to CPUs (taskset does)",
	"lua-load":            "usher runs no Lua",
	"external-check":      "a check that is a program is health: exec:PROGRAM",
	"server-state-base":   "usher keeps the states of backends over an upgrade, and asks them at each start",
	"server-state-file":   "usher keeps the states of backends over an upgrade, and asks them at each start",
	"presetenv":           "usher.yaml has no variables",
	"setenv":              "usher.yaml has no variables",
	"unix-bind":           "the mode and owner of a unix listener stand behind its path (,mode=660,user=NAME)",
	"spread-checks":       "usher spreads checks by itself",
	"default-path":        "paths are absolute",
	"maxconnrate":         "usher bounds new flows of a service (rate: 100/s) or of a client (client-rate: 10/s)",
	"maxsessrate":         "usher bounds new flows of a service (rate: 100/s) or of a client (client-rate: 10/s)",
	"mworker-max-reloads": "usher has no old processes after a reload or an upgrade",
}

// isHarmlessGlobal reports whether a line of the section global has nothing to say to usher.
func isHarmlessGlobal(word string) bool {
	for _, prefix := range []string{"tune.", "ssl-", "ca-base", "crt-base", "key-base", "no", "set-dumpable", "expose-", "h1-", "h2-", "http", "issuers"} {
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	return globalHarmless[word]
}

var globalHarmless = set("daemon master-worker pidfile description node localpeer quiet debug zero-warning busy-polling " +
	"strict-limits cluster-secret insecure-fork-wanted insecure-setuid-wanted grace thread-groups thread-group numa-cpu-mapping " +
	"max-spread-checks profiling.tasks wurfl-data-file 51degrees-data-file deviceatlas-json-file resetenv unsetenv " +
	"prealloc-fd stats-file shm-stats-file pp2-never-send-local fd-hard-limit anonkey harden.reject-privileged-ports.tcp " +
	"harden.reject-privileged-ports.quic limited-quic default-server-state-file maxpipes maxcompcpuusage maxcomprate maxsslconn maxsslrate maxzlibmem")
