package main

import (
	"net/netip"
	"time"

	"usher/internal/iptables"
	"usher/proxy/limit"
	"usher/proxy/rules"
)

// decisionSubjects are decisions by themselves, of usher and by a walk of the list, on clients that
// no rule fits.
func decisionSubjects(sizes []int) ([]subject, error) {
	var subjects []subject
	for _, n := range sizes {
		list, bad := iptables.Build(ruleLines(n, noneFits, 0))
		if bad != nil {
			return nil, bad
		}
		set, err := rules.Compile(list, nil, rules.Options{Seed: 1})
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, decisionSubject(set, n), walkSubject(n))
	}
	return subjects, nil
}

// ruleClient is the i-th client of decisions, within no prefix of the rules.
func ruleClient(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(ipv4(11<<24+i*2654435761>>8), 40000)
}

var ruleLocal = netip.AddrPortFrom(ipv4(127<<24+1), 8080)

func decisionSubject(set *rules.Set, n int) subject {
	var holds limit.Holds
	packet := rules.Packet{Local: ruleLocal, Protocol: rules.TCP}
	at := uint32(0)
	return subject{decision, n, func(times int) {
		for range times {
			at++
			packet.Client = ruleClient(at)
			if v := set.Decide(&packet, time.Duration(at), &holds); v.Target != rules.Accept {
				panic("bench: a client is refused that no rule fits")
			}
		}
	}}
}

// plainRule is a rule that a walk looks at: as much as the rules of the study have, and no more.
type plainRule struct {
	network, mask uint32
	port          uint16
}

// walkSubject is as fast as a walk can be: what it looks at lies side by side in memory.
func walkSubject(n int) subject {
	list := make([]plainRule, n)
	for i := range list {
		list[i] = plainRule{10<<24 + uint32(i)<<8, 0xffffff00, deniedPort(i)}
	}
	at, port := uint32(0), ruleLocal.Port()
	return subject{listWalk, n, func(times int) {
		for range times {
			at++
			client := ruleClient(at).Addr().As4()
			address := uint32(client[0])<<24 | uint32(client[1])<<16 | uint32(client[2])<<8 | uint32(client[3])
			for i := range list {
				if r := &list[i]; address&r.mask == r.network && port == r.port {
					panic("bench: a client is refused that no rule fits")
				}
			}
		}
	}}
}
