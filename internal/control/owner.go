package control

import (
	"cmp"
	"slices"

	"go.uber.org/zap/zapcore"
)

// Owner is a source of services.
type Owner string

// The owners, in the order in which their services are listed.
const (
	Flags Owner = "flags"
	File  Owner = "file"
	API   Owner = "api"
	Kube  Owner = "kube"

	IPVSAdm  Owner = "ipvsadm"
	IPTables Owner = "iptables"
)

// rank is the place of an owner's services in lists. Owners that are not named above come last.
func (o Owner) rank() int {
	order := []Owner{Flags, File, API, Kube, IPVSAdm, IPTables}
	if i := slices.Index(order, o); i >= 0 {
		return i
	}
	return len(order)
}

func (o Owner) compare(other Owner) int {
	return cmp.Or(cmp.Compare(o.rank(), other.rank()), cmp.Compare(o, other))
}

// level is that of log lines about services of the owner. Those of a cluster come and go by the thousand.
func (o Owner) level() zapcore.Level {
	if o == Kube {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// place says where services of the owner come from; file is the path of the config file.
func (o Owner) place(file string) string {
	switch o {
	case Flags:
		return "the command line"
	case File:
		return "the file " + file
	case API:
		return "the API"
	case Kube:
		return "Kubernetes"
	}
	return string(o)
}

// remedy says how services of the owner are changed.
func (o Owner) remedy() string {
	switch o {
	case Flags:
		return "change it there and restart"
	case File:
		return "change it there and reload"
	case API:
		return "change it with usher set, add and rm"
	case Kube:
		return "change its Service there"
	case IPVSAdm, IPTables:
		return "change it with usher " + string(o)
	}
	return "change it there"
}
