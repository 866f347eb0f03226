package ipvsadm

import "math"

// defaultScheduler is that of a service without -s.
const defaultScheduler = "wlc"

const (
	maxSchedulerName = 15
	maxEngineName    = 16
	longestTimeout   = 86400 * 31 // seconds
	defaultPersist   = 360        // seconds, of -p without a value; the manual page says 300
)

// take takes in an option that follows the command.
func (l *line) take(g given) *Error {
	checked := g.option
	switch g.option {
	case optTCPService, optUDPService, optSCTPService, optMarkService:
		checked = optService
	case optMasquerading, optTunneling, optGatewaying:
		checked = optForward
	}
	if checked <= lastChecked {
		if l.given.has(checked) {
			return usage("multiple '%s' options specified", checked.name())
		}
		l.given |= setOf(checked)
	}
	switch {
	case checked == optService:
		return l.takeService(g)
	case checked == optForward:
		l.cmd.Destination.Method = g.option.method()
		return nil
	case g.option <= lastChecked:
		if isFormat := l.cmd.Format.take(g.option); isFormat {
			return nil
		}
		return l.takeValue(g)
	}
	return l.takeOther(g)
}

func (o option) method() Method {
	switch o {
	case optMasquerading:
		return Masq
	case optTunneling:
		return Tunnel
	}
	return Route
}

// takeOther takes in options that may be repeated, and refuses commands.
func (l *line) takeOther(g given) *Error {
	op, _ := g.option.op()
	switch {
	case g.option == optSort:
		return nil
	case g.option == optIPv6 && l.cmd.Service.Mark == 0:
		return usage("-6 used before -f\n")
	case g.option == optIPv6:
		l.cmd.Service.IPv6, l.bits, l.hasHoles = true, 128, false
		return nil
	case op == Version && l.cmd.Op == List:
		l.cmd.Format.Verbose = true
		return nil
	}
	return usage("invalid option `%s'", l.last())
}

// take takes in an option without a value that says what is printed.
func (f *Format) take(o option) bool {
	var to *bool
	switch o {
	case optNumeric:
		to = &f.Numeric
	case optConnection:
		to = &f.Connections
	case optTimeout:
		to = &f.Timeouts
	case optDaemon:
		to = &f.Daemons
	case optStats:
		to = &f.Stats
	case optRate:
		to = &f.Rate
	case optExact:
		to = &f.Exact
	case optThresholds:
		to = &f.Thresholds
	case optPersistentConn:
		to = &f.PersistentConn
	case optTunInfo:
		to = &f.TunInfo
	case optNoSort:
		to = &f.NoSort
	default:
		return false
	}
	*to = true
	return true
}

func (l *line) takeService(g given) *Error {
	switch g.option {
	case optMarkService:
		mark, ok := number(g.value, 1, math.MaxUint32)
		if !ok {
			return usage("invalid fwmark value `%s' specified", g.value)
		}
		l.cmd.Service.Mark, l.protocol = uint32(mark), TCP
		return nil
	case optTCPService:
		l.protocol = TCP
	case optUDPService:
		l.protocol = UDP
	default:
		l.protocol = SCTP
	}
	a, ok := l.address(g.value, true)
	if !ok {
		return usage("illegal virtual server address[:port] specified")
	}
	l.addr = a
	if a.ip.Is6() {
		l.bits, l.hasHoles = 128, false
	}
	return nil
}

// takeServer takes in the address of a real server. Without a port it gets that of the service, or that of the client's
// packet if the service has a range of ports.
func (l *line) takeServer(value string) *Error {
	a, ok := l.address(value, false)
	if !ok {
		return usage("illegal real server address[:port] specified")
	}
	if !a.hasPort && l.addr.last == 0 {
		a.port = l.addr.port
	}
	l.server = a
	return nil
}

func (l *line) takeValue(g given) *Error {
	v, d := &l.cmd.Service, &l.cmd.Destination
	switch g.option {
	case optScheduler:
		v.Scheduler = g.value[:min(len(g.value), maxSchedulerName)]
	case optEngine:
		v.Engine = g.value[:min(len(g.value), maxEngineName)]
	case optSchedFlags:
		l.schedFlags = g.value
	case optOnePacket:
		v.OnePacket = true
	case optPersistent:
		return l.takePersist(g)
	case optNetmask:
		return l.takeNetmask(g.value)
	case optServer:
		return l.takeServer(g.value)
	case optWeight:
		weight, err := illegal(g.value, 0, math.MaxInt32, "weight")
		d.Weight = int32(weight)
		return err
	case optUpper:
		upper, err := illegal(g.value, 0, math.MaxInt32, "u_threshold")
		d.Upper = uint32(upper)
		return err
	case optLower:
		lower, err := illegal(g.value, 0, math.MaxInt32, "l_threshold")
		d.Lower = uint32(lower)
		return err
	case optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemCsum:
		return d.take(g)
	}
	return takeDaemon(g)
}
