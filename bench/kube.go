package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// kubeConfig says how large the study is.
type kubeConfig struct {
	sizes     []int // how many Services: the one that figures are for, and others to compare with
	endpoints int   // of each Service
	many, few int   // changes of objects of an API server, and of files
	created   int   // Services that come one after the other
	idleTime  time.Duration
}

var kubeStudy = kubeConfig{sizes: []int{5000, 100}, endpoints: 10, many: 200, few: 20, created: 1000, idleTime: 10 * time.Second}

// trial is one process: how many Services it begins with, and where they come from.
type trial struct {
	services int
	isFolder bool
}

func (t trial) String() string {
	from := "an API server"
	if t.isFolder {
		from = "a folder"
	}
	return fmt.Sprintf("%s services of %s", grouped(t.services), from)
}

func (c kubeConfig) trials() (all []trial) {
	for _, isFolder := range []bool{false, true} {
		for _, n := range c.sizes {
			all = append(all, trial{n, isFolder})
		}
	}
	return all
}

// pace is how far changes are apart that no client waits for. usher makes one of those that come together.
func (t trial) pace() time.Duration {
	if t.isFolder {
		return time.Second
	}
	return 20 * time.Millisecond
}

// What is measured.
const (
	coldStart     = "from exec until the last service serves, s"
	coldCPU       = "CPU time of that, s"
	atMostAtStart = "resident at most until then, MB"
	idleMemory    = "resident when idle, MB"
	idleCPU       = "CPU time when idle, ms a second"
	changeTime    = "one endpoint replaced, until a client reaches the new one, ms"
	changeCPU     = "CPU time of such a change, ms"
	creationTime  = "one service more, from its slice until a client is served, ms"
	atMost        = "resident at most in all, MB"
)

// kubeFigures are in the order of the report. Of those that have quantiles there is more than one value in a process.
var kubeFigures = [...]struct {
	name         string
	hasQuantiles bool
}{
	{coldStart, false}, {coldCPU, false}, {atMostAtStart, false}, {idleMemory, false}, {idleCPU, false},
	{changeTime, true}, {changeCPU, false}, {creationTime, true}, {atMost, false},
}

// kubeResults is what the study found.
type kubeResults struct {
	kubeConfig
	limit  uint64 // of descriptors
	load   string // averages of the last 1, 5 and 15 minutes, at the end
	values map[trial]map[string][]float64
}

func newKubeResults(c kubeConfig, limit uint64) *kubeResults {
	r := &kubeResults{kubeConfig: c, limit: limit, values: make(map[trial]map[string][]float64)}
	for _, t := range c.trials() {
		r.values[t] = make(map[string][]float64)
	}
	return r
}

func (r *kubeResults) add(t trial, figure string, v float64) {
	r.values[t][figure] = append(r.values[t][figure], v)
}

// quantile returns the value that this part of the values does not exceed, by the nearest rank.
func quantile(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, min(len(sorted)-1, int(part*float64(len(sorted))+0.999999)-1))]
}

func mean(values []float64) (m float64) {
	for _, v := range values {
		m += v / float64(len(values))
	}
	return m
}

// kubeTitle heads the page and its table of figures.
const kubeTitle = "usher kube with many services"

// The quantiles of a figure that have rows of their own.
const (
	medianOf = ", p50"
	slowOf   = ", p99"
)

// text is the page of the study.
func (r *kubeResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, kubeTitle, o)
	fmt.Fprintf(&b, "- limit of descriptors: %s\n", grouped(int(r.limit)))
	fmt.Fprintf(&b, "- load averages at the end, of 1, 5 and 15 minutes: %s\n", r.load)
	fmt.Fprintf(&b, "\n%s, each with processes of its own: `usher kube` runs as an ordinary user in a network namespace that routes all ClusterIPs and endpoints to "+
		"itself. A service has one port, one listener on its ClusterIP and %s in one EndpointSlice, with the labels, owners, targets and managed fields that a cluster writes. "+
		"The API server is one of the study's process, which lists and watches objects in memory, in protobuf; the folder has a file for each service and its slice. "+
		"All run on the same CPUs: the API server, the clients and the endpoints too. Where the load averages are above the number of CPUs, times are those of a machine with other work; CPU time depends less on it.\n\n"+
		"A change writes the slice of a random service anew, with one endpoint replaced; the clock runs from before that until a client, which connects again and again, is answered by the new endpoint, "+
		"which is one of %d in turn. The CPU time of a change is that of others without a client, %d ms apart, garbage collection and the share of idling included. "+
		"Medians of the rounds with their range; quantiles are of the values of all rounds.\n\n",
		count(o.rounds, "round"), count(r.endpoints, "endpoint"), r.endpoints, trial{}.pace().Milliseconds())
	r.writeFigures(&b)
	b.WriteString("\n![the time of a change](kube-change.svg)\n")
	writeKubeProxy(&b)
	return []byte(b.String())
}

func (r *kubeResults) writeFigures(b *strings.Builder) {
	rows := [][]string{{""}}
	for _, t := range r.trials() {
		rows[0] = append(rows[0], t.String())
	}
	for _, f := range kubeFigures {
		summaries := []string{""}
		if f.hasQuantiles {
			summaries = []string{", mean", medianOf, slowOf, ", max"}
		}
		for _, which := range summaries {
			row := []string{f.name + which}
			for _, t := range r.trials() {
				row = append(row, summaryOf(which, r.values[t][f.name]))
			}
			rows = append(rows, row)
		}
	}
	writeTable(b, 1, rows)
}

func summaryOf(which string, values []float64) string {
	switch {
	case len(values) == 0:
		return none
	case which == ", mean":
		return number(mean(values))
	case which == medianOf:
		return number(quantile(values, 0.5))
	case which == slowOf:
		return number(quantile(values, 0.99))
	case which == ", max":
		return number(quantile(values, 1))
	}
	return spreadOf(values).String()
}

// kubeFigure shows how long a change takes to reach a client.
func kubeFigure(r *reader) figure {
	t := r.table("kube.md", kubeTitle, 0)
	at := func(which string, from trial) cell { return r.cell(t, changeTime+which, from.String()) }
	b := &bars{title: "From the change until a client reaches the new endpoint", unit: " ms"}
	for i, from := range kubeStudy.trials() {
		typical, slow := at(medianOf, from), at(slowOf, from)
		typical.from, typical.to = typical.value, slow.value
		b.rows = append(b.rows, bar{name: strings.Replace(from.String(), " of a", ", a", 1), isMain: i == 0, cell: typical})
	}
	many, few := kubeStudy.trials()[0], kubeStudy.trials()[1]
	r.claim(at(medianOf, many).value < 2*at(medianOf, few).value, "a change takes hardly longer with many services than with few")
	return figure{
		title: fmt.Sprintf("With %s services, a client reaches a replaced endpoint after %s (99\u00a0%% within %s); with %s, after %s",
			grouped(many.services), millisecond(at(medianOf, many).value), millisecond(at(slowOf, many).value), grouped(few.services), millisecond(at(medianOf, few).value)),
		note:   "Smaller is better. Bars are medians; whiskers reach to what 99\u00a0% of the changes need. " + capital(r.page("kube.md").rounds) + ".",
		panels: []panel{b},
	}
}

// writeKubeProxy writes what others have published about kube-proxy.
func writeKubeProxy(b *strings.Builder) {
	b.WriteString(`
## kube-proxy, as others have measured it

None of these is measured here: machines, versions and questions differ, so they show orders of magnitude. kube-proxy's time is that of writing rules; it waits for
` + "`minSyncPeriod`" + ` (1 s by default) between two syncs besides.

`)
	rows := [][]string{{"mode", "what", "size", "time", "source"}}
	for _, p := range published {
		rows = append(rows, []string{p.mode, p.what, p.size, p.time, p.source})
	}
	writeTable(b, 5, rows)
}

// published are figures of kube-proxy, each with where it is from.
var published = [...]struct{ mode, what, size, time, source string }{
	{"iptables", "one partial sync", "3,595 services, 138,792 endpoints", "2.84 s", "kubernetes/kubernetes issue 138073, log of March 2026"},
	{"nftables", "all rules at the start", "5,006 services, 250,011 endpoints", "795 s", "kubernetes/kubernetes issue 135639, log of November 2025, 32 vCPUs"},
	{"nftables", "10,000 services created", "10,000 services, 20,000 endpoints", "25 min; 9 min with partial sync", "kubernetes/kubernetes pull request 126013"},
	{"nftables", "one service created", "10,000 services, 20,000 endpoints", "8 min; 141 ms with partial sync", "kubernetes/kubernetes pull request 126013"},
	{"nftables", "endpoint to rules (NetworkProgrammingLatency), p50 and p99", "test of 100 nodes", "1.52 s, 6.82 s", "kubernetes/kubernetes pull request 124272"},
	{"iptables", "first packet of a connection", "5,000 services and more", "O(n) in the services", "kubernetes.io blog, NFTables mode for kube-proxy, February 2025"},
	{"nftables", "first packet of a connection", "30,000 services", "p99 below p01 of iptables", "the same"},
}
