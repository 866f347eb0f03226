package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// What the flood study compares: how proxies refuse.
const (
	rejects = "reset"
	drops   = "no answer"
)

// floodSources are the addresses of denied clients.
var floodSources = consecutive(netip.AddrFrom4([4]byte{127, 0, 9, 1}), 8)

const (
	floodPrefix = "127.0.9.0/24"
	// floodPace is when allowed clients come: half a thousand a second, which occupies no proxy.
	floodPace = 2 * time.Millisecond
	// floodWaiting bounds the allowed clients that wait.
	floodWaiting = 1000
)

// floodName is a contender of the flood study.
func floodName(by, how string) string { return by + ", " + how }

// floodResults is what the study found: by contender, one figure a round.
type floodResults struct {
	names      []string // in the order of the report
	calm, busy map[string]*floodFigures
	notes      []string
}

// floodFigures are those of the allowed clients, in µs, and of the flood.
type floodFigures struct{ p50, p99, flooded, proxyBusy []float64 }

func (f *floodFigures) note(t turn) {
	f.p50, f.p99 = append(f.p50, t.p50), append(f.p99, t.p99)
	f.flooded, f.proxyBusy = append(f.flooded, t.flooded), append(f.proxyBusy, t.proxyBusy)
}

// rise is by how much the flood raises the p99 of a contender, in µs, one a round.
func (r *floodResults) rise(name string) []float64 {
	calm, busy := r.calm[name].p99, r.busy[name].p99
	rises := make([]float64, min(len(calm), len(busy)))
	for i := range rises {
		rises[i] = busy[i] - calm[i]
	}
	return rises
}

// perDenied is the CPU time in µs that a denied client takes of the proxy, one a round.
func (r *floodResults) perDenied(name string) []float64 {
	calm, busy := r.calm[name], r.busy[name]
	costs := make([]float64, min(len(calm.proxyBusy), len(busy.proxyBusy)))
	for i := range costs {
		costs[i] = (busy.proxyBusy[i] - calm.proxyBusy[i]) / 100 * 1e6 / busy.flooded[i]
	}
	return costs
}

// peer is the contender that a contender is compared with.
func (r *floodResults) peer(name string) string {
	_, how, _ := strings.Cut(name, ", ")
	return floodName("haproxy", how)
}

func (r *floodResults) title() string {
	usher := spreadOf(r.rise(floodName("usher", rejects)))
	title := fmt.Sprintf("A flood of denied clients raises the p99 of allowed ones by %s µs at usher", number(usher.median))
	if peer := spreadOf(r.rise(floodName("haproxy", rejects))); peer.n > 0 {
		title += fmt.Sprintf(", by %s at HAProxy", number(peer.median))
	}
	return title
}

func (r *floodResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, r.title(), o)
	for _, note := range r.notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	fmt.Fprintf(&b, "\nMedian of %s, in which all take turns of %s, without and with the flood, in another order. In brackets is where the median is with a confidence of %g%%.\n\n"+
		"An allowed client connects every %s, passes 64 B there and back, and closes; its time counts from when it was due. "+
		"Denied clients, of %s, connect from the same CPU in all of the time that the allowed ones and the backends leave. They send nothing; each resets its connection after 4,096 others. "+
		"The proxy has the other CPU. What refuses them:\n\n"+
		"- %s: a rule with `REJECT`, HAProxy's `tcp-request connection reject`\n"+
		"- %s: a rule with `DROP`, which holds 1,000 of them; HAProxy's `tcp-request connection silent-drop`, which holds none\n\n",
		count(o.rounds, "round"), o.slot, 100*confidence, floodPace, floodPrefix, rejects, drops)
	rows := [][]string{{"proxy and its answer", "p50 µs calm", "p50 µs flooded", "p99 µs calm", "p99 µs flooded", "rise of p99 µs", "p", "denied/s", "proxy busy %", "CPU µs of one denied"}}
	for _, name := range r.names {
		calm, busy := r.calm[name], r.busy[name]
		p := none
		if peer := r.peer(name); peer != name {
			p = significance(r.rise(name), r.rise(peer))
		}
		rows = append(rows, []string{
			name, spreadOf(calm.p50).middle(), spreadOf(busy.p50).middle(), spreadOf(calm.p99).middle(), spreadOf(busy.p99).middle(),
			interval(r.rise(name)), p, spreadOf(busy.flooded).middle(), spreadOf(busy.proxyBusy).middle(), interval(r.perDenied(name)),
		})
	}
	writeTable(&b, 1, rows)
	fmt.Fprintf(&b, "\np is how likely chance alone makes the rises differ as much from HAProxy's (Mann-Whitney); below 0.05 the difference is real. "+
		"The CPU time of a denied client is what the flood adds to that of the proxy, user and kernel.\n")
	return []byte(b.String())
}
