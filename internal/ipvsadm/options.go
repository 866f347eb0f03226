package ipvsadm

// option is an option of ipvsadm. A command is the option firstCommand and its Op.
type option uint8

// The options of which ipvsadm checks whether the command takes them, in the order of its checks.
const (
	optNumeric option = iota + 1
	optConnection
	optService
	optScheduler
	optPersistent
	optNetmask
	optServer
	optForward
	optWeight
	optUpper
	optLower
	optMcastInterface
	optTimeout
	optDaemon
	optStats
	optRate
	optThresholds
	optPersistentConn
	optNoSort
	optSyncID
	optExact
	optOnePacket
	optEngine
	optSchedFlags
	optMcastGroup
	optMcastPort
	optMcastTTL
	optSyncMaxLen
	optTunInfo
	optTunType
	optTunPort
	optTunNoCsum
	optTunCsum
	optTunRemCsum
	lastChecked = optTunRemCsum
)

// The options that stand for one of the others, or for none.
const (
	optTCPService = lastChecked + 1 + iota
	optUDPService
	optSCTPService
	optMarkService
	optMasquerading
	optTunneling
	optGatewaying
	optIPv6
	optSort
	firstCommand
)

const lastOption = firstCommand + option(Version)

func (o option) op() (Op, bool) { return Op(o - firstCommand), o > firstCommand }

// long is the option's long name.
func (o option) long() string {
	return [lastOption + 1]string{
		optNumeric: "numeric", optConnection: "connection", optScheduler: "scheduler", optPersistent: "persistent",
		optNetmask: "netmask", optServer: "real-server", optWeight: "weight", optUpper: "u-threshold",
		optLower: "l-threshold", optMcastInterface: "mcast-interface", optTimeout: "timeout", optDaemon: "daemon",
		optStats: "stats", optRate: "rate", optThresholds: "thresholds", optPersistentConn: "persistent-conn",
		optNoSort: "nosort", optSyncID: "syncid", optExact: "exact", optOnePacket: "ops", optEngine: "pe",
		optSchedFlags: "sched-flags", optMcastGroup: "mcast-group", optMcastPort: "mcast-port",
		optMcastTTL: "mcast-ttl", optSyncMaxLen: "sync-maxlen", optTunInfo: "tun-info", optTunType: "tun-type",
		optTunPort: "tun-port", optTunNoCsum: "tun-nocsum", optTunCsum: "tun-csum", optTunRemCsum: "tun-remcsum",

		optTCPService: "tcp-service", optUDPService: "udp-service", optSCTPService: "sctp-service",
		optMarkService: "fwmark-service", optMasquerading: "masquerading", optTunneling: "ipip",
		optGatewaying: "gatewaying", optIPv6: "ipv6", optSort: "sort",

		firstCommand + option(Add): "add-service", firstCommand + option(Edit): "edit-service",
		firstCommand + option(Delete): "delete-service", firstCommand + option(Flush): "clear",
		firstCommand + option(List): "list", firstCommand + option(AddServer): "add-server",
		firstCommand + option(DeleteServer): "delete-server", firstCommand + option(EditServer): "edit-server",
		firstCommand + option(SetTimeouts): "set", firstCommand + option(StartDaemon): "start-daemon",
		firstCommand + option(StopDaemon): "stop-daemon", firstCommand + option(Restore): "restore",
		firstCommand + option(Save): "save", firstCommand + option(Zero): "zero", firstCommand + option(Help): "help",
		firstCommand + option(Version): "version",
	}[o]
}

// name is the option's in messages.
func (o option) name() string {
	switch o {
	case optService:
		return "service-address"
	case optForward:
		return "forwarding-method"
	}
	return o.long()
}

// name is the command's in messages.
func (op Op) name() string {
	if op == Flush {
		return "flush"
	}
	return (firstCommand + option(op)).long()
}

func longOption(name string) (option, bool) {
	for o := range lastOption + 1 {
		if name != "" && o.long() == name {
			return o, true
		}
	}
	return 0, false
}

func shortOption(letter byte) (option, bool) {
	o := [128]option{
		'A': firstCommand + option(Add), 'E': firstCommand + option(Edit), 'D': firstCommand + option(Delete),
		'C': firstCommand + option(Flush), 'L': firstCommand + option(List), 'l': firstCommand + option(List),
		'Z': firstCommand + option(Zero), 'a': firstCommand + option(AddServer),
		'e': firstCommand + option(EditServer), 'd': firstCommand + option(DeleteServer),
		'h': firstCommand + option(Help), 'v': firstCommand + option(Version), 'R': firstCommand + option(Restore),
		'S': firstCommand + option(Save), 't': optTCPService, 'u': optUDPService, 'f': optMarkService,
		's': optScheduler, 'p': optPersistent, 'M': optNetmask, 'r': optServer, 'm': optMasquerading,
		'i': optTunneling, 'g': optGatewaying, 'w': optWeight, 'x': optUpper, 'y': optLower, 'n': optNumeric,
		'c': optConnection, 'X': optExact, '6': optIPv6, 'o': optOnePacket, 'b': optSchedFlags,
	}[letter&0x7f]
	return o, letter < 0x80 && o != 0
}

// argument says whether an option takes a value.
type argument uint8

const (
	takesNone argument = iota
	takesOne
	takesOptional
)

func (o option) argument() argument {
	switch o {
	case optPersistent:
		return takesOptional
	case optTCPService, optUDPService, optSCTPService, optMarkService, optScheduler, optNetmask, optServer, optWeight,
		optUpper, optLower, optMcastInterface, optSyncID, optEngine, optSchedFlags, optMcastGroup, optMcastPort,
		optMcastTTL, optSyncMaxLen, optTunType, optTunPort,
		firstCommand + option(StartDaemon), firstCommand + option(StopDaemon):
		return takesOne
	}
	return takesNone
}
