package balancer

// algorithms lists the schedulers. It is never written to.
var algorithms = [...]algorithm{
	{
		Algorithm: Algorithm{Name: "rr", Summary: "round robin", Flags: []string{IPVS}},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSRR()
			}
			return new(roundRobin)
		},
	},
	{
		Algorithm: Algorithm{Name: "wrr", Summary: "weighted round robin", Flags: []string{IPVS}, Weighs: true},
		make: func(s settings) scheduler {
			if s.ipvs {
				return &ipvsWRR{last: -1}
			}
			return newBest(newWeightedRR())
		},
	},
	{
		Algorithm: Algorithm{Name: "lc", Summary: "least connections", Flags: []string{IPVS}},
		make:      func(s settings) scheduler { return newBest(leastConn{ties: tiesOf(s, leastRecent)}) },
	},
	{
		Algorithm: Algorithm{Name: "wlc", Summary: "weighted least connections", Flags: []string{IPVS}, Weighs: true},
		make:      func(s settings) scheduler { return newBest(newWeightedLeastConn(s)) },
	},
	{
		Algorithm: Algorithm{Name: "sed", Summary: "shortest expected delay", Flags: []string{IPVS}, Weighs: true},
		make:      func(s settings) scheduler { return newBest(shortestDelay{ties: tiesOf(s, leastRecent)}) },
	},
	{
		Algorithm: Algorithm{Name: "nq", Summary: "never queue", Flags: []string{IPVS}, Weighs: true},
		make: func(s settings) scheduler {
			return newBest(neverQueue{shortestDelay{ties: tiesOf(s, leastRecent)}})
		},
	},
	{
		Algorithm: Algorithm{Name: "fo", Summary: "weighted failover", Flags: []string{IPVS}},
		make:      func(s settings) scheduler { return newBest(failover{ties: tiesOf(s, firstListed)}) },
	},
	{
		Algorithm: Algorithm{Name: "ovf", Summary: "weighted overflow", Flags: []string{IPVS}},
		make:      func(s settings) scheduler { return newBest(newOverflow(s)) },
	},
	{
		Algorithm: Algorithm{Name: "twos", Summary: "two draws, fewer active", Flags: []string{IPVS}, Weighs: true, Random: true},
		make:      newTwos,
	},
	{
		Algorithm: Algorithm{Name: "p2c", Summary: "two different draws, fewer active", Weighs: true, Random: true},
		make:      newP2C,
	},
	{
		Algorithm: Algorithm{Name: "ewma", Summary: "two different draws, shorter wait", Weighs: true, Random: true, Learns: true},
		make:      newEWMA,
	},
	{
		Algorithm: Algorithm{Name: "lblc", Summary: "sticky by destination, else wlc", Flags: []string{IPVS}, Weighs: true, Destination: true},
		make:      newLBLC,
	},
	{
		Algorithm: Algorithm{Name: "lblcr", Summary: "sticky to servers by destination, else wlc", Flags: []string{IPVS}, Weighs: true, Destination: true},
		make:      newLBLCR,
	},
	{
		Algorithm: Algorithm{
			Name: "mh", Summary: "Maglev consistent hash", Flags: []string{IPVS, "mh-port", "mh-fallback"},
			Weighs: true, Hashes: true, Bounds: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSMaglev(s)
			}
			return newHashing(s.key, s.balance, newMaglevTable)
		},
		quiesced: exactOnly,
	},
	{
		Algorithm: Algorithm{
			Name: "sh", Summary: "source hash", Flags: []string{IPVS, "sh-port", "sh-fallback"},
			Weighs: true, Hashes: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSSourceHash(s)
			}
			return newHashing(s.key, 0, newMaglevTable)
		},
		quiesced: exactOnly,
	},
	{
		Algorithm: Algorithm{
			Name: "dh", Summary: "destination hash", Flags: []string{IPVS},
			Weighs: true, Destination: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSDestinationHash()
			}
			return newHashing(HashKey{Of: LocalAddr}, 0, newMaglevTable)
		},
		quiesced: exactOnly,
	},
	{
		Algorithm: Algorithm{Name: "ring", Summary: "ring consistent hash", Weighs: true, Hashes: true, Bounds: true},
		make:      func(s settings) scheduler { return newHashing(s.key, s.balance, newRing) },
	},
	{
		Algorithm: Algorithm{Name: "hrw", Summary: "rendezvous hash", Weighs: true, Hashes: true, Bounds: true},
		make:      func(s settings) scheduler { return newHashing(s.key, s.balance, newRendezvous) },
	},
}
