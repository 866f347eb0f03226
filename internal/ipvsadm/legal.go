package ipvsadm

import "fmt"

// optionSet is a set of options that are checked.
type optionSet uint64

func setOf(all ...option) (s optionSet) {
	for _, o := range all {
		s |= 1 << o
	}
	return s
}

func (s optionSet) has(o option) bool { return s&(1<<o) != 0 }

func (s optionSet) hasAny(of optionSet) bool { return s&of != 0 }

// legal says which options a command takes. Any other is illegal.
type legal struct {
	required  optionSet
	optional  optionSet
	exclusive optionSet // one of them at most
}

func (op Op) legal() legal {
	server := setOf(optForward, optWeight, optUpper, optLower, optTunType, optTunPort, optTunNoCsum, optTunCsum, optTunRemCsum)
	switch op {
	case Add, Edit:
		return legal{
			required: setOf(optService),
			optional: setOf(optScheduler, optPersistent, optNetmask, optOnePacket, optEngine, optSchedFlags),
		}
	case Delete:
		return legal{required: setOf(optService)}
	case List:
		return legal{
			optional: setOf(optNumeric, optStats, optRate, optThresholds, optPersistentConn, optNoSort, optSyncID,
				optExact, optTunInfo),
			exclusive: setOf(optConnection, optService, optTimeout, optDaemon),
		}
	case AddServer, EditServer:
		return legal{required: setOf(optService, optServer), optional: server}
	case DeleteServer:
		return legal{required: setOf(optService, optServer)}
	case StartDaemon:
		return legal{optional: setOf(optMcastInterface, optSyncID, optMcastGroup, optMcastPort, optMcastTTL, optSyncMaxLen)}
	case StopDaemon:
		return legal{optional: setOf(optSyncID)}
	case Save:
		return legal{optional: setOf(optNumeric)}
	case Zero:
		return legal{optional: setOf(optService)}
	}
	return legal{}
}

func (t TunnelType) legal() legal {
	switch t {
	case GUE:
		return legal{required: setOf(optTunPort), exclusive: setOf(optTunNoCsum, optTunCsum, optTunRemCsum)}
	case GRE:
		return legal{exclusive: setOf(optTunNoCsum, optTunCsum)}
	}
	return legal{}
}

func (t TunnelType) name() string { return [...]string{IPIP: "ipip", GUE: "gue", GRE: "gre"}[t] }

// check refuses the first option from first to last that the command, or the type of tunnel, named what does not take.
func (l legal) check(given optionSet, first, last option, what string) *Error {
	var exclusive option
	for o := first; o <= last; o++ {
		switch {
		case !given.has(o) && l.required.has(o):
			return usage("You need to supply the '%s' option for the %s", o.name(), what)
		case !given.has(o) || l.required.has(o) || l.optional.has(o):
		case !l.exclusive.has(o):
			return usage("Illegal '%s' option with the %s", o.name(), what)
		case exclusive != 0:
			return usage("The option '%s' conflicts with the '%s' option in the %s", o.name(), exclusive.name(), what)
		default:
			exclusive = o
		}
	}
	return nil
}

// usage returns the error of words that are wrong. It ends a restore.
func usage(format string, args ...any) *Error {
	return &Error{Status: statusUsage, EndsRestore: true, Text: fmt.Sprintf(format, args...)}
}
