package config

import (
	"slices"
	"strconv"
	"time"

	"usher/balancer"
	"usher/proxy/limit"
)

// Option is one option of a service or of the process; S is Service, Backend or Process. The tables have a row for each. It
// has the name, the network, the parser and formatter of the value, and the help text.
type Option[S any] struct {
	Name    Field
	Network string // UDP, or TCP with unix: only services of that network have it; empty: all
	Switch  bool   // means true without a value
	List    bool   // of words with commas between them
	Topic   string // the help page with Form and Help; empty: the first one, which has them in its own words
	Form    string // of the value; words that can be counted stand between |
	Help    string

	parse func(word string) (func(*S), error)
	text  func(*S) string
}

// option makes a row for a field of S. Text writes what parse reads.
func option[S, T any](name Field, field func(*S) *T, parse func(string) (T, error), text func(T) string) Option[S] {
	return Option[S]{
		Name: name,
		parse: func(word string) (func(*S), error) {
			v, err := parse(word)
			if err != nil {
				return nil, &Error{Field: name, Value: word, cause: err}
			}
			return func(s *S) { *field(s) = v }, nil
		},
		text: func(s *S) string { return text(*field(s)) },
	}
}

// Text writes the value of the option as the word that is read.
func (o *Option[S]) Text(s *S) string { return o.text(s) }

func (o Option[S]) help(topic, form, help string) Option[S] {
	o.Topic, o.Form, o.Help = topic, form, help
	return o
}

func (o Option[S]) asSwitch() Option[S] {
	o.Switch = true
	return o
}

func (o Option[S]) asList() Option[S] {
	o.List = true
	return o
}

// of restricts options to one network.
func of(network string, options ...Option[Service]) []Option[Service] {
	for i := range options {
		options[i].Network = network
	}
	return options
}

// ServiceOptions returns the options of services, in the order of the help. Callers must not change it.
func ServiceOptions() []Option[Service] { return serviceOptions }

// ProcessOptions returns the options of the process. Callers must not change it.
func ProcessOptions() []Option[Process] { return processOptions }

var serviceOptions = slices.Concat([]Option[Service]{
	option("scheduler", func(s *Service) *Scheduler { return &s.Scheduler }, parseScheduler, Scheduler.String).
		help("", "ALG[,FLAG...]", "chooses the backend of a new flow"),
	option("hash-key", func(s *Service) *balancer.HashKey { return &s.HashKey }, parseHashKey, FormatHashKey).
		help("schedulers", "addr|addr-port|dst|dst-port[/BITS[/BITS6]]",
			"what mh, sh, ring and hrw hash: the client's address (default), or the address that it asked for; "+
				"/24 or /24/64 is how many of its bits count"),
	option("hash-balance", func(s *Service) *int { return &s.HashBalance }, parseBalance, formatShare).
		help("schedulers", "125", "no backend gets more than 125 % of its fair share; further clients go to the next one"),
	option("persist", func(s *Service) *Persist { return &s.Persist }, parsePersist, Persist.String).
		help("schedulers", "300s[/24[/64]]", "a client (of a /24) keeps its backend until it has been away for 300s; "+
			"with ,quiesced=leave not one of weight 0 or that drains, with ,overloaded=leave not one over its upper "+
			"threshold (IPVS keeps both)"),
	option("health", func(s *Service) *Health { return &s.Health }, ParseHealth, Health.String).
		help("", "SPEC", "how backends are checked"),
	option("fail", func(s *Service) *bool { return &s.FailClosed }, either("open", "closed"), formatFail).
		help("", "open|closed", "what clients get while no backend is up"),
	option("on-empty", func(s *Service) *EmptyPolicy { return &s.OnEmpty }, parseEmpty, EmptyPolicy.String).
		help("backends", "close|drop|refuse", "allows a service without a backend. close: its listeners are closed, "+
			"so that the kernel refuses clients, also of udp; drop: clients get no answer; refuse: they are refused once "+
			"their wait is over, and datagrams are ignored"),
	option("slow-start", func(s *Service) *time.Duration { return &s.SlowStart }, parseOptional, Limit).
		help("backends", "TIME", "gives a backend that comes up its weight in steps, over TIME"),
	option("max-age", func(s *Service) *Age { return &s.MaxAge }, parseAge, Age.String).
		help("backends", "TIME[,jitter=10%]", "ends flows that last longer, so that long ones spread again"),
	option("on-down", func(s *Service) *TerminationPolicy { return &s.OnDown }, parseTermination, TerminationPolicy.String).
		help("backends", "HOW[,TIME]", "ends flows of a backend that fails its checks, or whose agent says down: keep "+
			"(default of tcp), fin or reset (default of udp); with TIME, after that time"),
	option("on-drain", func(s *Service) *TerminationPolicy { return &s.OnDrain }, parseTermination, TerminationPolicy.String).
		help("backends", "HOW[,TIME]", "the same for a backend that drains or is in maintenance; default: keep"),
	option("on-remove", func(s *Service) *TerminationPolicy { return &s.OnRemove }, parseTermination, TerminationPolicy.String).
		help("backends", "HOW[,TIME]", "the same for a backend that is removed, or whose address its name no longer has"),
	option("eject", func(s *Service) *Eject { return &s.Eject }, parseEject, Eject.String).
		help("backends", "N[,time=10s][,share=50%]", "N failures in a row take a backend out for a while, and for longer "+
			"each time, up to 5m; at most a share of them at once, and never the last"),
	option("agent", func(s *Service) *Agent { return &s.Agent }, parseAgent, Agent.String).
		help("backends", "PORT[,send=TEXT][,interval=2s][,timeout=1s]", "queries an agent at a port of each backend's "+
			"address. The answer is a line of words, as for HAProxy's agent-check: 75% (of its weight), maxconn:30, "+
			"drain (no new clients), maint (no new flows at all), ready (ends both), down, up. What an answer leaves "+
			"out stays as it was, also without the agent"),
	option("panic", func(s *Service) *int { return &s.Panic }, parsePanic, formatShare).
		help("backends", "SHARE", "with a smaller share of backends up, those that are down are used too"),
	option("source", func(s *Service) *Source { return &s.Source }, parseSource, Source.String).
		help("backends", "ADDR[+ADDR]", "the local address of connections and checks to backends, or one of each family; "+
			"it must be one of this machine. The kernel chooses ports. Default: off, where it chooses both"),
	option("reserve", func(s *Service) *int { return &s.Reserve }, number(1, maxCount), strconv.Itoa).
		help("listeners", "N", "flows that other services cannot take, also of udp; default: a fair share of half"),
	option("allow", func(s *Service) *Prefixes { return &s.Access.Allow }, parsePrefixes, Prefixes.String).asList().
		help("access", "CIDR,...", "lets only these clients in"),
	option("deny", func(s *Service) *Prefixes { return &s.Access.Deny }, parsePrefixes, Prefixes.String).asList().
		help("access", "CIDR,...", "refuses these clients"),
	option("on-deny", func(s *Service) *bool { return &s.Access.DropDenied }, either("refuse", "drop"), formatDeny).
		help("access", "refuse|drop", "what refused clients get: a reset (default), or no answer, as from a rule "+
			"that drops; datagrams are ignored either way"),
	option("client-rate", func(s *Service) *ClientRate { return &s.Access.ClientRate }, parseClientRate, ClientRate.String).
		help("access", "N/s[,burst=N][/24[/64]]", "how often a client (of a /24) may come: in a second, m, h or d; at once "+
			"as many as burst says (default: N)"),
	option("rate", func(s *Service) *limit.Rate { return &s.Access.Rate }, parseRate, formatRate).
		help("access", "N/s[,burst=N]", "the same for all clients of the service together"),
	option("accept-proxy", func(s *Service) *Prefixes { return &s.Access.AcceptProxy }, parsePrefixes, Prefixes.String).asList().
		help("proxy", "CIDR,...", "requires a header from these peers"),
	option("accept-proxy-only", func(s *Service) *bool { return &s.Access.ProxyOnly }, parseBool, strconv.FormatBool).asSwitch().
		help("proxy", "", "refuses all other peers; without it they are clients themselves"),
	option("send-proxy", func(s *Service) *SendProxy { return &s.SendProxy }, parseSendProxy, SendProxy.String).
		help("proxy", "v1|v2[,every]", "sends backends a header; v2 has the TLVs of the one that came in. Datagrams need v2: "+
			"the first one of a flow has it, or every one"),
	option("send-proxy-id", func(s *Service) *bool { return &s.SendProxyID }, parseBool, strconv.FormatBool).asSwitch().
		help("proxy", "", "with an id of the flow (PP2_TYPE_UNIQUE_ID), which the access log has, too"),
	option("log-access", func(s *Service) *bool { return &s.LogAccess }, parseBool, strconv.FormatBool).asSwitch().
		help("access", "", "logs each flow of the service, as the access log of the process does for all services"),
}, of(TCP,
	option("max-client-conns", func(s *Service) *ClientLimit { return &s.Access.MaxClientConns }, parseClientLimit, ClientLimit.String).
		help("access", "N[/24[/64]]", "how many connections a client (of a /24) may have at once"),
	option("accept-proxy-timeout", func(s *Service) *time.Duration { return &s.Access.HeaderTimeout }, duration(minTimeout), Delay).
		help("proxy", "5s", "how long a header may take"),
	option("sni-timeout", func(s *Service) *time.Duration { return &s.Access.HelloTimeout }, duration(minTimeout), Delay).
		help("sni", "5s", "how long a ClientHello may take"),
	option("connect-timeout", func(s *Service) *time.Duration { return &s.ConnectTimeout }, duration(minTimeout), Delay).
		help("", "TIME", "the time for all attempts to reach a backend together"),
	option("wait", func(s *Service) *time.Duration { return &s.Wait }, parseOptional, Limit).
		help("listeners", "TIME", "holds a client for this time while no backend is up (see usher help health)"),
	option("queue", func(s *Service) *Queue { return &s.Queue }, parseQueue, Queue.String).
		help("backends", "LENGTH,TIME", "clients wait, first come first served, while every backend has its max"),
	option("abort-on-close", func(s *Service) *bool { return &s.AbortOnClose }, parseBool, strconv.FormatBool).asSwitch().
		help("listeners", "", "ends a client that closes while it waits or connects; without it usher serves it"),
	option("idle-timeout", func(s *Service) *time.Duration { return &s.IdleTimeout }, parseOptional, Limit).
		help("listeners", "TIME", "ends a connection without data or acknowledgement for this time"),
	option("half-close-timeout", func(s *Service) *time.Duration { return &s.HalfCloseTimeout }, duration(minTimeout), Delay).
		help("listeners", "TIME", "the same once one side has finished"),
	option("reclaim-idle", func(s *Service) *time.Duration { return &s.ReclaimIdle }, parseOptional, Limit).
		help("listeners", "TIME", "a new client of a full server ends the longest idle connection, if idle for TIME"),
), of(UDP,
	option("udp-idle-timeout", func(s *Service) *time.Duration { return &s.UDP.IdleTimeout }, duration(minTimeout), Delay).
		help("udp", "60s", "ends a flow without datagrams for this time"),
	option("udp-unreplied-timeout", func(s *Service) *time.Duration { return &s.UDP.UnrepliedTimeout }, duration(minTimeout), Delay).
		help("udp", "30s", "the same for a flow without a reply so far"),
	option("udp-replies", func(s *Service) *int { return &s.UDP.Replies }, number(0, maxCount), strconv.Itoa).
		help("udp", "N", "ends a flow after N replies to each datagram, 1 for DNS; 0: no limit"),
	option("ops", func(s *Service) *bool { return &s.UDP.OnePacket }, parseBool, strconv.FormatBool).asSwitch().
		help("udp", "", "schedules each datagram by itself, also those of one client"),
	option("max-flows", func(s *Service) *int { return &s.UDP.MaxFlows }, number(0, maxCount), strconv.Itoa).
		help("udp", "N", "bounds the flows of the service"),
	option("max-client-flows", func(s *Service) *int { return &s.UDP.MaxClientFlows }, parseClientFlows, formatClientFlows).
		help("udp", "N|off", "bounds the flows of one client address; default: half of the service's"),
))

var processOptions = []Option[Process]{
	option("drain-timeout", func(p *Process) *time.Duration { return &p.DrainTimeout }, parseDelay, Delay).
		help("", "TIME", "how long flows may go on after a signal"),
	option("max-conns", func(p *Process) *int { return &p.MaxConns }, number(1, maxCount), strconv.Itoa).
		help("", "N", "the number of flows"),
	option("max-dropped", func(p *Process) *int { return &p.MaxDropped }, number(0, maxCount), strconv.Itoa).
		help("access", "1000", "how many dropped clients are held; any more are closed at once"),
	option("drop-timeout", func(p *Process) *time.Duration { return &p.DropTimeout }, duration(minTimeout), Delay).
		help("access", "30s", "how long a dropped client is held"),
	option("workers", func(p *Process) *int { return &p.Workers }, number(1, maxWorkers), strconv.Itoa).
		help("", "N", "the number of event loops"),
	option("engine", func(p *Process) *string { return &p.Engine }, oneOf("auto", "epoll", "portable"), asIs).
		help("", "auto|epoll|portable", "how bytes are moved"),
	option("log-format", func(p *Process) *string { return &p.LogFormat }, oneOf("console", "json"), asIs).
		help("", "console|json", "for people or for programs"),
	option("log-level", func(p *Process) *string { return &p.LogLevel }, oneOf("debug", "info", "warn", "error"), asIs).
		help("", "debug|info|warn|error", "what is logged"),
	option("access-log", func(p *Process) *bool { return &p.AccessLog }, parseBool, strconv.FormatBool).asSwitch().
		help("", "", "logs each flow"),
	option("name", func(p *Process) *string { return &p.Name }, parseName, asIs).
		help("control", "NAME", "of this instance, which no other may have; default: the name of its first service, or its "+
			"process id if another instance has that name"),
	option("control", func(p *Process) *string { return &p.Control }, parsePath, asIs).
		help("control", "PATH|off", "the socket that commands talk to; default: NAME.sock in $XDG_RUNTIME_DIR/usher, or in "+
			"usher-UID of the directory for temporary files"),
	option("admin", func(p *Process) *Addr { return &p.Admin }, parseAdmin, formatAdmin).
		help("control", "ADDR", "serves metrics, health and the state over HTTP, to be read; a port alone is one of 127.0.0.1"),
	option("admin-token-file", func(p *Process) *string { return &p.AdminTokenFile }, parsePath, asIs).
		help("control", "FILE", "allows changes there, with the token in this file (Authorization: Bearer TOKEN)"),
	option("proc", func(p *Process) *string { return &p.Proc }, parsePath, asIs).
		help("control", "DIR", "keeps net/ip_vs, net/ip_vs_conn, net/ip_vs_stats and net/nf_conntrack there, as the kernel has them below /proc, "+
			"for exporters such as node_exporter, whose path.procfs this is. They are a second old at most, and removed at the end"),
	option("watch-config", func(p *Process) *bool { return &p.WatchConfig }, parseBool, strconv.FormatBool).asSwitch().
		help("control", "", "reloads the config file when it changes, without a signal"),
}

// maxWorkers is above the size of any machine; each worker costs a thread and a socket per listener.
const maxWorkers = 1024

// NetworkOf returns the network of the services that can have the value: UDP, TCP, or "" for all.
func (o *Option[S]) NetworkOf(value string) string {
	if o.Name == "health" && IsUDPHealth(value) {
		return UDP
	}
	return o.Network
}

// counterparts are options with the same meaning for services of the other network.
var counterparts = map[Field]Field{
	"idle-timeout": "udp-idle-timeout", "udp-idle-timeout": "idle-timeout",
	"max-client-conns": "max-client-flows", "max-client-flows": "max-client-conns",
}

// otherNetwork returns an error about an option that only services of network have.
func otherNetwork(service string, name Field, value, network, format string, args ...any) error {
	e := &Error{Service: service, Field: name, Value: value, format: format, args: append(args, network)}
	if other, ok := counterparts[name]; ok {
		e.format += " (did you mean %s?)"
		e.args = append(e.args, other)
	}
	return e
}

// diff returns the names of the options in which two values differ.
func diff[S any](options []Option[S], a, b *S) []Field {
	var fields []Field
	for i := range options {
		if o := &options[i]; o.text(a) != o.text(b) {
			fields = append(fields, o.Name)
		}
	}
	return fields
}

// text returns the value of an option; empty: there is no such option.
func text[S any](options []Option[S], name Field, s *S) string {
	if o := find(options, name); o != nil {
		return o.text(s)
	}
	return ""
}

// find returns the row of an option, or nil.
func find[S any](options []Option[S], name Field) *Option[S] {
	i := slices.IndexFunc(options, func(o Option[S]) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &options[i]
}

// names returns the names of options, in their order.
func names[S any](options []Option[S]) []string {
	all := make([]string, len(options))
	for i := range options {
		all[i] = string(options[i].Name)
	}
	return all
}

// parse reads the value of an option. The error is an *Error.
func parse[S any](options []Option[S], name Field, value string) (o *Option[S], set func(*S), err error) {
	if o = find(options, name); o == nil {
		return nil, nil, &Error{Field: name, Value: value, format: "unknown option %q%s", args: []any{string(name), OrHave(string(name), names(options))}}
	}
	set, err = o.parse(value)
	return o, set, err
}

// Set reads the value of an option. The error is an *Error.
func (s *Service) Set(name Field, value string) error {
	if o := find(serviceOptions, name); o != nil {
		if network := o.NetworkOf(value); network != "" && network != s.Network() {
			return otherNetwork(s.Name, name, value, network, "service %q is %s, and only %s services have this option", s.Name, s.Network())
		}
	}
	_, set, err := parse(serviceOptions, name, value)
	if err != nil {
		err.(*Error).Service = s.Name
		return err
	}
	set(s)
	return nil
}

// SetAll is Set for all services that can have the value. At least one is required.
func SetAll(services []*Service, name Field, value string) error {
	o, set, err := parse(serviceOptions, name, value)
	if err != nil {
		return err
	}
	network, found := o.NetworkOf(value), false
	for _, s := range services {
		if network == "" || network == s.Network() {
			set(s)
			found = true
		}
	}
	if !found {
		return otherNetwork("", name, value, network, "only %s services have this option, and there is none here")
	}
	return nil
}

// IsUDPHealth reports whether a spec is of a check that only udp services have.
func IsUDPHealth(spec string) bool { return hasKind(spec, "udp") || hasKind(spec, "dns") }

// IsProcessOption reports whether an option is of the process, not of services.
func IsProcessOption(name Field) bool { return find(processOptions, name) != nil }

// Set reads the value of an option. The error is an *Error.
func (p *Process) Set(name Field, value string) error {
	_, set, err := parse(processOptions, name, value)
	if err == nil {
		set(p)
	}
	return err
}

// checkOptions parses again every value that is not the default, so that a plan from any source is valid. It parses each
// distinct value once, since many services share values.
func (c *Config) checkOptions() error {
	tcp, udp, p := NewService("", TCP), NewService("", UDP), DefaultProcess()
	checks := map[string]recheck[Service]{TCP: newRecheck(serviceOptions, tcp), UDP: newRecheck(serviceOptions, udp)}
	for _, s := range c.Services {
		if err := checks[s.Network()].check(s); err != nil {
			err.Service = s.Name
			return err
		}
	}
	if err := newRecheck(processOptions, &p).check(&c.Process); err != nil {
		return err
	}
	return nil
}

// recheck holds the valid words of each option.
type recheck[S any] struct {
	options []Option[S]
	right   []map[string]bool
}

func newRecheck[S any](options []Option[S], defaults *S) recheck[S] {
	c := recheck[S]{options, make([]map[string]bool, len(options))}
	for i := range options {
		c.right[i] = map[string]bool{options[i].text(defaults): true}
	}
	return c
}

func (c recheck[S]) check(s *S) *Error {
	for i := range c.options {
		word := c.options[i].text(s)
		if c.right[i][word] {
			continue
		}
		if _, err := c.options[i].parse(word); err != nil {
			return err.(*Error)
		}
		c.right[i][word] = true
	}
	return nil
}
