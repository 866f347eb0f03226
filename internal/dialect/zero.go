package dialect

import (
	"net/netip"

	"usher/internal/control"
	"usher/internal/ipvsadm"
)

// zeros are the totals that -Z has made those of zero, by service. They do not change once readers have them: metrics go
// on counting.
type zeros map[string]zero

type zero struct {
	Service  ipvsadm.Stats            `cbor:",omitempty"`
	Backends map[string]ipvsadm.Stats `cbor:",omitempty"` // by address
}

func (z zeros) service(name string) ipvsadm.Stats { return z[name].Service }

func (z zeros) backend(service string, addr netip.AddrPort) ipvsadm.Stats {
	of, has := z[service]
	if !has {
		return ipvsadm.Stats{}
	}
	return of.Backends[addr.String()]
}

// zero returns the zeros after a batch: of the services that it has zeroed, and of the others that still run.
func (s *Server) zero(before zeros, b *batch) zeros {
	if len(before) == 0 && !b.zeroesAll && !b.flushed && len(b.zeroed) == 0 {
		return before
	}
	isZeroed := make(map[string]bool, len(b.zeroed)) // by name
	for _, key := range b.zeroed {
		if o, has := b.foreign[key]; has {
			isZeroed[o.name] = true
		}
		for _, network := range networksOf(&key) {
			isZeroed[NameOf(&key, network)] = true
		}
	}
	after := make(zeros)
	live := s.control.Live()
	for i := range live {
		l := &live[i]
		name := l.Config.Name
		isMeant := b.zeroesAll || isZeroed[name] || b.flushed && l.Owner == control.IPVSAdm
		old, wasZeroed := before[name]
		if !isMeant && !wasZeroed {
			continue
		}
		next := zero{Service: old.Service, Backends: make(map[string]ipvsadm.Stats, len(l.Backends))}
		if isMeant {
			next.Service = s.figures.service(l).Stats
		}
		for j := range l.Backends {
			addr := l.Backends[j].Backend.Endpoint().Addr.String()
			if isMeant {
				next.Backends[addr] = s.figures.backend(l, &l.Backends[j]).Stats
			} else if stats, has := old.Backends[addr]; has {
				next.Backends[addr] = stats
			}
		}
		after[name] = next
	}
	return after
}

// since returns totals behind others. One that is lower than before has begun anew, and counts whole.
func since(now, before ipvsadm.Stats) ipvsadm.Stats {
	behind := func(now, before uint64) uint64 {
		if now < before {
			return now
		}
		return now - before
	}
	return ipvsadm.Stats{
		Conns: behind(now.Conns, before.Conns), InPkts: behind(now.InPkts, before.InPkts), OutPkts: behind(now.OutPkts, before.OutPkts),
		InBytes: behind(now.InBytes, before.InBytes), OutBytes: behind(now.OutBytes, before.OutBytes),
	}
}

func add(a, b ipvsadm.Stats) ipvsadm.Stats {
	return ipvsadm.Stats{
		Conns: a.Conns + b.Conns, InPkts: a.InPkts + b.InPkts, OutPkts: a.OutPkts + b.OutPkts,
		InBytes: a.InBytes + b.InBytes, OutBytes: a.OutBytes + b.OutBytes,
	}
}

func addRates(a, b ipvsadm.Rates) ipvsadm.Rates {
	return ipvsadm.Rates{
		CPS: a.CPS + b.CPS, InPPS: a.InPPS + b.InPPS, OutPPS: a.OutPPS + b.OutPPS, InBPS: a.InBPS + b.InBPS, OutBPS: a.OutBPS + b.OutBPS,
	}
}
