// Package balancer decides which backend a new flow goes to.
//
// A [Pool] holds the backends of one service, each a [Backend] with a weight, a
// status and counters. Discovery calls [Pool.Update] and health checks call
// [Pool.SetStatus]; from these the pool derives the members, the backends that
// may get new flows, and hands them to its scheduler as one immutable list:
//
//   - backends that are up;
//   - if there is none, those whose status is still unknown;
//   - if there is none of these either, and the pool does not fail closed, those
//     that are down: a failed check may be wrong, an empty pool always is.
//
// Of each kind those that are no backups come first: backups are members only when
// there is nobody else of their kind or better, or relieve a flow that has been to all
// members in vain. With [Options.Panic] the kinds are used
// together until enough of those that are no backups are in use.
//
// A backend in drain or maintenance, one of weight 0 and one whose name does not
// resolve is never a member.
//
// [Pool.Acquire] picks a member that has room and reserves it in one step, so that two
// flows that start together see each other. Whoever acquired a backend gives it back
// with [Pool.Release] exactly once, when the flow ends or when the connect fails. A
// flow that goes on to another backend names those that it has been to in a [Tried].
// [Pool.Rejoin] is the way back for a client whose backend somebody remembers.
//
// # Schedulers
//
// Where what IPVS does is plainly poor for a proxy, the form in the first column is the
// default, and the flag ipvs ([IPVS], "wrr,ipvs" on the command line) asks for exactly
// the kernel's. Active flows are connections and, other than in IPVS, UDP flows, whose
// end a proxy sees; there are no inactive ones. The cost of a choice among n backends
// is O(1) for rr, twos, p2c, ewma and all that hash, O(log n) for the others; the
// kernel's forms of rr and wrr, and of lblc and lblcr where there are limits, may look at
// all. Backends that are full, at their bound or were tried are passed over, which costs
// what it takes to find another one.
//
//	      default                                    ipvs
//	rr    list order; goes on where it stood when    newest first, with the kernel's pointer
//	      the list changes
//	wrr   turns at even distances, exact over a      levels of weight, newest first, in
//	      cycle; equal weights are rr                bursts; an edit begins anew
//	lc    fewest flows; ties: the least recently     ties: the newest
//	      picked
//	wlc   least flows/weight; ties as lc, but idle   ties: the newest, which gets every
//	      ones take turns by weight, as in wrr       flow until it has one
//	sed   least (flows+1)/weight; ties as lc         ties: the newest
//	nq    idle ones, which take turns, else sed      the newest idle one, else sed
//	fo    largest weight with room; ties: the        ties: the newest
//	      first listed
//	ovf   largest weight with fewer flows than its   one flow more than the weight; ties:
//	      weight; all over: refused                  the newest
//	twos  two draws by weight, maybe of one, the     draws along the list, the newest has one
//	      fewer flows/weight; tie: the first         lot more
//	lblc  the destination's last backend while not   ties: the newest; thresholds are not
//	      crowded (more flows than weight, another   looked at again for a destination that
//	      with less than half), else wlc             is known; Max is always kept
//	lblcr the least loaded of the destination's set  ties: the newest in wlc, the last to
//	      of up to 16, else wlc's choice joins it;   join in the set
//	      after 24 h without change the most loaded
//	      leaves
//	mh    Maglev, 65537 slots, weighted, in any      4093 slots, SipHash-1-3, newest first,
//	      order of the list; goes on to another      last weight that was not 0; refused when
//	      when its own is full or was tried          its own is quiesced or full, unless
//	                                                 mh-fallback
//	sh    the table of mh                            256 buckets in list order by weight, a
//	                                                 weight of 0 keeps one; sh-fallback
//	dh    the table of mh, on the destination        256 buckets, one a turn whatever the
//	      address                                    weight; refused without fallback
//
// The kernel has no findings and no orders. With ipvs a backend that is no member for one
// of these is out of the list as if it were removed, though its turn in rr is kept. In the
// tables of mh, sh and dh one of weight 0 keeps its place, so there a weight of 0 and not
// a drain is what moves nobody.
//
// wlc looks at weights only where there are flows to weigh, which for flows that come one
// at a time is nowhere: the kernel's sends all of them to one backend, and plain turns
// would give a light one as many as a heavy one. nq keeps its plain turns: that idle
// ones are all alike is what it is for.
//
// Beyond IPVS, without a form of its own: p2c draws two different backends by weight and
// takes the one with fewer flows/weight. ewma draws likewise and takes the one with the
// lower latency x load; latency is the time to accept and the time to begin an answer,
// both averages that forget within some 10 s and jump up at once ([Pool.ObserveConnect],
// [Pool.Observe]). ring is a ring of 128 points a weight, up to a million points, and hrw
// rendezvous hashing with weights, over 65537 slots. Their shares are uneven by chance, by
// one in the square root of a backend's points or slots: on a ring by 9 % at weight 1 and
// by 1 % at weight 100, with hrw by 4 % among 100 backends and by 12 % among 1000, while
// those of mh are even to about a slot. But when a backend goes, no client of another one
// moves, where Maglev moves a few.
//
// mh, sh, ring and hrw hash the client's address or another [HashKey]; instances with
// the same backends agree on every flow. mh, ring and hrw can bound the load
// ([Options.Balance]). sh-port and mh-port hash the client's port as well.
//
// # Limits
//
// [Limits.Max] is never exceeded. Between the thresholds of IPVS a backend gets no new
// flows, but for those that persistence sends there. A backend that comes up may get
// its weight bit by bit ([Options.SlowStart]); the pool has no clock, so its owner calls
// [Pool.Advance].
//
// The package holds no socket, no clock, no goroutine and, but for seeds of hashes that
// no choice follows from, no randomness: its owner brings them.
package balancer
