// Package balancer decides which backend a new flow goes to.
//
// A [Pool] holds the backends of one service and one scheduler. Its owner says with
// [Pool.Update] what the backends are; flows call [Pool.Acquire] and [Pool.Release]:
//
//	[]Spec ── Update ──> backends ──> members ──> scheduler (tables, heaps)
//	                     all, by      may get         │
//	                     Endpoint     new flows       │
//	flow ──── Acquire ────────────────────────────────┴──> Backend, reserved
//	flow ──── Release ───────────────────────────────────> Backend, one flow less
//
// The status of a backend follows from its [Spec] alone:
//
//	Spec.Admin   Spec.Ejected  Spec.Check     Backend.Status
//	Maint        any           any            InMaint
//	Drain        any           any            Draining
//	Ready        true          any            Down
//	Ready        false         Unknown …      as checked; Down without an address
//
// A flow moves through a backend like this:
//
//	          Acquire, AcquireSticky            ClearFailing
//	(nowhere) ─────────────────────> (reserved) ────────────> (taken up)
//	    ^                                │ CountFailure            │
//	    │            Release             v         Release         │
//	    ├────────────────────────── (failed) ──> Tried, Acquire    │
//	    └──────────────────────────────────────────────────────────┘
//
// Members are the backends of the best tier that has any:
//
//  1. those that are up;
//  2. those whose status is still unknown;
//  3. unless the pool fails closed, those that are down: a failed check may be wrong, an
//     empty pool always is.
//
// In each tier backups are members only when nobody else of that tier or a better one is.
// A backend in drain or maintenance, one of weight 0 and one whose name does not resolve
// is never a member. With [Options.Panic] tiers join until enough backends that are no
// backups are in use. A retry that has tried all members goes on to the others, best
// tier first; if the pool fails closed, not to those that are down.
//
// [Pool.Acquire] picks a member that has room and reserves it in one step, so that two
// flows that start together see each other. Each reservation ends with exactly one
// [Pool.Release], when the flow ends or when the connect fails. A retry names the
// backends that it has tried in a [Tried]. [Pool.AcquireSticky] is the way back for a
// client whose backend is remembered.
//
// # Schedulers
//
// The default forms differ from IPVS where IPVS suits no proxy. The flag ipvs ([IPVS],
// "wrr,ipvs" on the command line) asks for exactly the kernel's choice. Active flows are
// connections and UDP flows, whose end a proxy sees; there are no inactive ones. A choice
// among n backends is O(1) for rr, twos, p2c, ewma and all that hash, O(log n) for the
// others. The kernel's rr and wrr, and its lblc and lblcr with limits, may look at all.
// Passing over backends that are full, at their bound or tried costs extra.
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
// The kernel has no checks and no admin states. With ipvs a backend that is no member is
// out of the list as if it were removed, though its turn in rr is kept. One of weight 0
// keeps its place in the tables of mh, sh and dh: there a weight of 0 moves nobody, and a
// drain does.
//
// The kernel's wlc sends flows that come one at a time all to one backend: no flows are
// there to weigh. Plain turns would give a light backend as many as a heavy one. nq keeps
// plain turns, because it is meant to treat idle backends alike.
//
// Beyond IPVS: p2c draws two different backends by weight and takes the one with fewer
// flows/weight. ewma draws likewise and takes the lower latency x load. Latency is the
// time to accept plus the time to begin an answer. Both are averages that forget within
// some 10 s and jump up at once ([Pool.ObserveConnect], [Pool.Observe]). ring is a ring of
// 128 points a weight, up to a million points. hrw is weighted rendezvous hashing over
// 65537 slots.
//
// Shares of ring and hrw are uneven by chance, by one in the square root of a backend's
// points or slots. On a ring that is 9 % at weight 1 and 1 % at weight 100; with hrw 4 %
// among 100 backends and 12 % among 1000. Those of mh are even to about a slot. But when
// a backend goes, ring and hrw move no client of another one; Maglev moves a few.
//
// mh, sh, ring and hrw hash the client's address or another [HashKey]. Instances with the
// same backends agree on every flow. mh, ring and hrw can bound the load
// ([Options.Balance]). sh-port and mh-port hash the client's port as well.
//
// # Backends that fail
//
// A backend that refuses holds no flows, and its retries load the others: most orders
// would send it everybody. So a retry takes no turn of new flows (rr, the kernel's rr and
// wrr). And a backend with a failure ([Backend.CountFailure]) is first choice for no more
// than its fair share of new flows, until a flow succeeds there: it rests for so many
// (lc, wlc, wrr, sed, nq, lblc, lblcr), has to be drawn first (twos, p2c, ewma), or gets
// nothing over the bound of others. Fair is the share by weight, of lc an even one.
//
// fo and ovf are an order, and hashes and persistence have clients of their own. A member
// that has only backups beside it gets all flows. There ejection and checks take it out.
//
// # Limits
//
// [Limits.Max] is never exceeded. Between the thresholds of IPVS a backend gets no new
// flows, except those that persistence sends there. A backend that comes up may get its
// weight in steps ([Options.SlowStart]); its owner gives the time with each Update.
//
// The package has no socket, no clock, no goroutine and no randomness of its own; no
// choice follows from the seeds of its hashes.
package balancer
