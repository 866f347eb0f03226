package main

import (
	"fmt"
	"strings"
)

// The contenders of the door study.
const (
	earlier   = "before"
	unguarded = "nothing configured"
	guarded   = "rules and limits"
)

var doorWorks = [...]string{"crr", "pingpong", "udp-128"}

// doorLimits are arguments that refuse nobody, but are looked at for each client. UDP has no connections.
func doorLimits(network string) []string {
	limits := []string{"--client-rate", "10000000/s", "--rate", "10000000/s"}
	if network == "tcp" {
		limits = append(limits, "--max-client-conns", "100000")
	}
	return limits
}

// doorRules is how many rules there are, none of which fits.
const doorRules = 100

// doorResults is what the study found: CPU time of a unit of work, by work and contender, one a round.
type doorResults struct {
	costs map[string][]float64
	notes []string
	works []workload
}

func doorName(work, who string) string { return work + ", " + who }

// over is the cost of a contender in relation to another one.
func (r *doorResults) over(work, who, than string) []float64 {
	return ratios(r.costs[doorName(work, who)], r.costs[doorName(work, than)])
}

func (r *doorResults) text(o studyOptions) []byte {
	var b strings.Builder
	title := "What the front door costs"
	if over := spreadOf(r.over("crr", unguarded, earlier)); over.n > 0 {
		title = fmt.Sprintf("The front door costs a connection %s times as much where nothing is configured", over.middle())
	}
	title += fmt.Sprintf(", %s times with rules and limits", spreadOf(r.over("crr", guarded, unguarded)).middle())
	writeStudyHead(&b, title, o)
	for _, note := range r.notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	fmt.Fprintf(&b, "\nMedian of %s, in which all take turns of %s in another order. CPU time of the proxy, user and kernel, with the epoll engine and one worker. "+
		"A ratio is taken within each round; in brackets is where its median is with a confidence of %g%%. "+
		"With rules and limits there are %d rules, none of which fits, and limits of the rates of a client and of all, over TCP of a client's connections as well, none of which is reached.\n\n",
		count(o.rounds, "round"), o.slot, 100*confidence, doorRules)
	rows := [][]string{{"work", "unit", earlier, unguarded, guarded, "nothing configured / before", "rules and limits / nothing configured"}}
	for _, w := range r.works {
		row := []string{w.name, w.cost}
		for _, who := range []string{earlier, unguarded, guarded} {
			row = append(row, spreadOf(r.costs[doorName(w.name, who)]).middle())
		}
		rows = append(rows, append(row, interval(r.over(w.name, unguarded, earlier)), interval(r.over(w.name, guarded, unguarded))))
	}
	writeTable(&b, 2, rows)
	return []byte(b.String())
}
