package nat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/proxy/rules"
)

// outcome is what becomes of a flow.
type outcome struct {
	backends []backend // none: it is not translated
	persist  time.Duration
	bits     int // of a client's address that persist looks at; 0: all
	isSticky bool
	id       string // equal outcomes of the same rules have equal ones
}

// backend is one of an outcome.
type backend struct {
	to     destination
	weight int
	source netip.Addr // of connections to it; zero: the kernel chooses
	rules  []*rule    // on the way to it
}

func (o *outcome) isNone() bool { return len(o.backends) == 0 }

// outcome sums up a walk.
func (w *walk) outcome() *outcome {
	o := &outcome{}
	var shares []float64
	for i := range w.leaves {
		l := &w.leaves[i]
		if l.share < leastShare {
			continue // only a check leads there
		}
		shares = append(shares, l.share)
		o.backends = append(o.backends, backend{to: l.to, rules: l.rules})
	}
	if o.isNone() {
		return o
	}
	last := o.backends[len(o.backends)-1].rules
	if lost := w.stays + w.accepted; lost > leastShare {
		w.rest(last[len(last)-1], "a share of the clients would stay untranslated, and usher has their address: the backends take all", true)
	}
	for i, weight := range weights(shares) {
		o.backends[i].weight = weight
	}
	w.setAffinity(o)
	for i := range o.backends {
		if n := o.backends[i].rules; n[len(n)-1].nat.Persistent {
			o.isSticky = true
		}
	}
	w.setSources(o)
	o.identify()
	return o
}

// maxTotal bounds the sum of weights that are sought for shares.
const maxTotal = 1000

// weights returns the smallest whole numbers that stand for shares.
func weights(shares []float64) []int {
	sum := 0.0
	for _, s := range shares {
		sum += s
	}
	all := make([]int, len(shares))
	for total := len(shares); total <= max(maxTotal, len(shares)); total++ {
		if isNear(shares, sum, total, all) {
			return all
		}
	}
	for i, s := range shares {
		all[i] = max(1, int(math.Round(s/sum*maxTotal*10)))
	}
	return all
}

// isNear fills in the weights of a total, and reports whether they are the shares.
func isNear(shares []float64, sum float64, total int, all []int) bool {
	for i, s := range shares {
		exact := s / sum * float64(total)
		whole := math.Round(exact)
		if whole < 1 || math.Abs(exact-whole) > 1e-5*float64(total) && math.Abs(exact-whole) > 1e-6 || math.Abs(exact-whole) > 0.01 {
			return false
		}
		all[i] = int(whole)
	}
	return true
}

// setAffinity keeps clients at a backend if each one has a check and a note of the same list, as kube-proxy writes them.
func (w *walk) setAffinity(o *outcome) {
	var first *rules.Recent
	isWhole := true
	for i := range w.leaves {
		l := &w.leaves[i]
		var own *rules.Recent
		for _, r := range l.checks {
			if l.note != nil && r.check.Name == l.note.Name {
				own = r.check
			}
		}
		if own == nil || first != nil && (own.Seconds != first.Seconds || own.Mask != first.Mask) {
			isWhole = false
			continue
		}
		if first == nil {
			first = own
		}
	}
	if first != nil && isWhole {
		o.persist = time.Duration(first.Seconds) * time.Second
		if ones := prefixBits(first.Mask); ones > 0 && ones < first.Mask.BitLen() {
			o.bits = ones
		}
		return
	}
	for i := range w.leaves {
		for _, r := range w.leaves[i].checks {
			w.rest(r, "clients stay at a backend if all of a service have --rcheck and --set of the same --seconds and --mask: these have not", true)
		}
	}
}

// prefixBits returns the length of a mask; 0: it is all, or no prefix.
func prefixBits(mask netip.Addr) (ones int) {
	for _, b := range mask.AsSlice() {
		for i := 7; i >= 0 && b>>i&1 == 1; i-- {
			ones++
		}
		if b != 0xff {
			break
		}
	}
	return ones
}

// setSources finds the source of the connections to each backend.
func (w *walk) setSources(o *outcome) {
	if !w.hasSources {
		return
	}
	for i := range o.backends {
		b := &o.backends[i]
		f := flow{protocol: w.protocol, to: netip.PrefixFrom(b.to.ip, b.to.ip.BitLen()), from: w.from, isLocal: w.isLocal, chain: "POSTROUTING"}
		switch {
		case b.to.count == 0:
			f.ports = w.ports
		default:
			f.ports = ports{b.to.port, b.to.port + uint16(b.to.count-1)}
		}
		s := w.run(w.nat, forSource, f)
		for _, e := range s.edges.from {
			if !slices.Contains(w.edges.from, e) {
				w.edges.from = append(w.edges.from, e)
			}
		}
		if len(s.edges.ports) > 0 && b.to.count == 0 && len(w.edges.ports) == 0 {
			w.edges.ports = s.edges.ports
		}
		b.source = s.source
	}
}

// choosesSource reports whether a rule of the graph gives connections an address.
func (p *planner) choosesSource() bool {
	for _, c := range p.nat.order {
		for _, r := range c.rules {
			if r.kind == setSource {
				return true
			}
		}
	}
	return false
}

// identify sums up the outcome in a few words.
func (o *outcome) identify() {
	var b strings.Builder
	for i := range o.backends {
		x := &o.backends[i]
		last := x.rules[len(x.rules)-1]
		fmt.Fprintf(&b, "%s %d %s %s %d %d %d|", last.chain.name, last.place, x.source, x.to.ip, x.to.port, x.to.count, x.weight)
	}
	fmt.Fprintf(&b, "%s %d %t", o.persist, o.bits, o.isSticky)
	o.id = b.String()
}

// isSame reports whether two outcomes send flows to the same backends.
func (o *outcome) isSame(other *outcome) bool { return o.id == other.id }
