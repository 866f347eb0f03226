package ipvsadm

import (
	"fmt"
	"net/netip"
)

// Parser reads command lines.
type Parser struct {
	Program string // as messages name it; empty: ipvsadm

	// Host and Port look names up. Nil knows none.
	Host func(name string) (netip.Addr, bool) // of IPv4
	Port func(service string, p Protocol) (uint16, bool)

	IsRestoring bool // the line is one of -R, which must not be another -R
}

// Parse reads the words of a command line without names. The error is an [*Error].
func Parse(args []string) (*Command, error) { return Parser{}.Parse(args) }

// Parse reads the words of a command line. The error is an [*Error].
func (p Parser) Parse(args []string) (*Command, error) {
	if len(args) == 0 {
		return &Command{Op: List}, nil
	}
	l := &line{Parser: p, words: words{args: args}, bits: 32, cmd: new(Command)}
	l.cmd.Destination.Weight = 1
	l.cmd.Destination.Method = Route
	if err := l.parse(); err != nil {
		return nil, err
	}
	return l.cmd, nil
}

// line is a command line that is being read.
type line struct {
	Parser
	words
	cmd        *Command
	given      optionSet
	protocol   Protocol
	addr       address // of the service
	bits       int     // of the persistence mask
	hasHoles   bool    // the mask does: the kernel would take it, and usher groups clients by prefix alone
	schedFlags string
	server     address
}

func (l *line) parse() *Error {
	if err := l.command(); err != nil || l.cmd.Op == Help || l.cmd.Op == Version {
		return err
	}
	if err := l.options(); err != nil {
		return err
	}
	if err := l.arguments(); err != nil {
		return err
	}
	if err := l.cmd.Op.legal().check(l.given, optNumeric, lastChecked, "'"+l.cmd.Op.name()+"' command"); err != nil {
		return err
	}
	l.cmd.HasService = l.given.has(optService)
	l.cmd.Service.Key = l.key()
	switch l.cmd.Op {
	case Add, Edit:
		return l.service()
	case AddServer, EditServer:
		return l.destination()
	case DeleteServer:
		l.cmd.Destination = Destination{Addr: l.server.addrPort()}
	case Zero:
		// The address 0 with port 0 stands for all services.
		if a := l.addr; l.cmd.Service.Mark == 0 && a.port == 0 && !(a.ip.IsValid() && !a.ip.IsUnspecified()) {
			l.cmd.HasService, l.cmd.Service.Key = false, Key{}
		}
	case List:
		return l.list()
	case Restore:
		if l.IsRestoring {
			return l.tryHelp()
		}
	}
	return nil
}

// tryHelp is how ipvsadm answers to a first word that is no command.
func (l *line) tryHelp() *Error {
	program := l.program()
	return &Error{Status: statusRefused, EndsRestore: true,
		Text: fmt.Sprintf("Try `%s -h' or '%s --help' for more information.", program, program)}
}

// command reads the first option, which is the command.
func (l *line) command() *Error {
	g, ok, _ := l.option()
	op, isCommand := g.option.op()
	if !ok || !isCommand {
		return l.tryHelp()
	}
	l.cmd.Op = op
	if isRole := g.value == "master" || g.value == "backup"; isRole {
		l.cmd.Daemon = g.value
		return nil
	}
	switch op {
	case StartDaemon:
		return usage("illegal start-daemon parameter specified")
	case StopDaemon:
		return usage("illegal start_daemon specified")
	}
	return nil
}

// options reads the options after the command.
func (l *line) options() *Error {
	for {
		g, ok, mistake := l.option()
		switch {
		case mistake != "":
			return &Error{Status: statusRefused, Text: l.last() + ": " + mistake}
		case !ok:
			return nil
		}
		if err := l.take(g); err != nil {
			return err
		}
	}
}

// arguments reads the words that are no options: three timeouts, or none.
func (l *line) arguments() *Error {
	if l.cmd.Op == SetTimeouts {
		if len(l.rest) < 3 {
			return usage("--set option requires 3 timeout values")
		}
		t := &l.cmd.Timeouts
		for i, to := range []*uint32{&t.TCP, &t.TCPFin, &t.UDP} {
			seconds, err := timeout(l.rest[i], 0)
			if err != nil {
				return err
			}
			*to = seconds
		}
		l.rest = l.rest[3:]
	}
	if len(l.rest) > 0 {
		return usage("unexpected argument %s", l.rest[0])
	}
	if l.schedFlags != "" {
		flags, err := schedulerFlags(l.cmd.Service.Scheduler, l.schedFlags)
		l.cmd.Service.Flags = flags
		return err
	}
	return nil
}

func (l *line) key() Key {
	k := Key{Mark: l.cmd.Service.Mark}
	switch {
	case k.Mark != 0:
		k.IPv6 = l.cmd.Service.IPv6
	case l.given.has(optService):
		k.Protocol, k.Addr, k.Last = l.protocol, l.addr.addrPort(), l.addr.last
	}
	return k
}

// service checks what Add and Edit say of a service.
func (l *line) service() *Error {
	v := &l.cmd.Service
	v.Bits = l.bits
	switch {
	case v.Mark == 0 && v.Addr.Port() == 0 && v.Persist == 0:
		return usage("Zero port specified for non-persistent service")
	case v.OnePacket && v.Mark == 0 && v.Protocol != UDP:
		return usage("One-Packet Scheduling is only for UDP virtual services")
	}
	if v.Scheduler == "" {
		v.Scheduler = defaultScheduler
	}
	if v.Persist != 0 && l.hasHoles {
		return Refuse("usher groups clients by prefix: use a netmask without holes, such as 255.255.255.0")
	}
	if v.Persist == 0 {
		v.Bits = v.addressBits()
	}
	return nil
}

// destination checks what AddServer and EditServer say of a destination. Its port is that of the service, unless packets
// are rewritten.
func (l *line) destination() *Error {
	key, d := l.cmd.Service.Key, &l.cmd.Destination
	d.Addr = l.server.addrPort()
	if key.Mark == 0 && d.Method != Masq {
		d.Addr = netip.AddrPortFrom(l.server.ip, key.Addr.Port())
	}
	tunnel := setOf(optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemCsum)
	switch {
	case l.server.ip.Is6() != key.isIPv6() && d.Method != Tunnel:
		return usage("Different address family is allowed only for tunneling servers")
	case l.given.hasAny(tunnel) && d.Method != Tunnel:
		return usage("Tunnel options conflict with forward method")
	}
	return d.TunnelType.legal().check(l.given, optTunPort, lastChecked, "'"+d.TunnelType.name()+"' tunnel type")
}

// list checks options of List that the table of legal options lets through.
func (l *line) list() *Error {
	other := setOf(optConnection, optTimeout, optDaemon)
	switch {
	case l.given.hasAny(other) && l.given.hasAny(setOf(optStats, optRate, optThresholds)),
		l.given.hasAny(setOf(optTimeout, optDaemon)) && l.given.has(optPersistentConn):
		return usage("options conflicts in the list command")
	}
	return nil
}
