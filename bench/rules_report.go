package main

import (
	"fmt"
	"strings"
)

// ruleKey is a list that somebody judges by.
type ruleKey struct {
	by    string
	rules int
	form  string
}

func (k ruleKey) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s, %s, %s", k.by, count(k.rules, "rule"), k.form), ", ")
}

// rulesResults is what the study found.
type rulesResults struct {
	rulesConfig
	costs map[string][]float64 // of a new connection in µs, by the string of its list, one a round
	times timings              // of decisions
	notes []string
}

// over returns what a list costs in relation to no rule, within each round.
func (r *rulesResults) over(k ruleKey) []float64 {
	return ratios(r.costs[k.String()], r.costs[r.without(k.by).String()])
}

// without is the contender of no rules.
func (r *rulesResults) without(by string) ruleKey {
	if by == byLines {
		by = byFile // neither has any
	}
	return ruleKey{by, 0, noneFits}
}

// The headings of its tables.
const (
	connectionsHeading = "A new connection, by the number of rules"
	decisionsHeading   = "A decision by itself"
)

var judges = [...]string{byUsher, byFile, byLines, byNFT, byLegacy}

// columns are the lists of the tables.
func (r *rulesResults) columns(by string) (keys []ruleKey) {
	for _, n := range r.sizes {
		keys = append(keys, ruleKey{by, n, noneFits})
	}
	return append(keys, ruleKey{by, r.largest(), lastFits}, ruleKey{by, r.largest(), inChains})
}

func (r *rulesResults) head(first ...string) []string {
	return append(sizesHead(first[0], r.sizes)[:1],
		append(append(first[1:], sizesHead("", r.sizes)[1:]...), grouped(r.largest())+", the last one fits", fmt.Sprintf("%s in %d chains", grouped(r.largest()), r.chains))...)
}

// title says what was found.
func (r *rulesResults) title() string {
	most := grouped(r.largest())
	usher := spreadOf(r.over(ruleKey{byUsher, r.largest(), noneFits})).middle()
	title := fmt.Sprintf("A new connection past %s rules costs usher %s times as much as without", most, usher)
	for _, by := range []string{byNFT, byLegacy} {
		if ratio := spreadOf(r.over(ruleKey{by, r.largest(), noneFits})); ratio.n > 0 {
			title += fmt.Sprintf("; %s: %s", by, ratio.middle())
		}
	}
	return title
}

// text is the page of the study.
func (r *rulesResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, r.title(), o)
	for _, note := range r.notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	fmt.Fprintf(&b, "\nMedian of %s, in which all take turns of %s in another order, while all of their processes are there. "+
		"A ratio is taken within each round; in brackets is where its median is with a confidence of %g%%.\n\n"+
		"A rule refuses a /24 at one port (HAProxy's ACL file has the prefixes alone). No rule matches the clients; in the rows where the last rule matches, it accepts them. "+
		"INPUT jumps to each of the chains for every client.\n\n"+
		"- usher, HAProxy: CPU time of the proxy for connect, 64 B there and back, close, 32 at a time, as in the comparison of proxies. "+
		"An ACL file is kept in a tree. Of lines, each is looked at.\n"+
		"- iptables: CPU time of a thread that connects to itself, accepts and closes, with the kernel's for both ends, in a network namespace. "+
		"Its first rule accepts what belongs to a connection; a list of none has that one alone. So a list is met once a connection, as usher's is. No byte is relayed: compare the growth, not the time.\n\n"+
		"![cost of rules](rules.svg)\n", count(o.rounds, "round"), o.slot, 100*confidence)
	r.writeConnections(&b)
	r.writeDecisions(&b)
	return []byte(b.String())
}

func (r *rulesResults) writeConnections(b *strings.Builder) {
	rows, than := [][]string{r.head("µs", "0")}, [][]string{r.head("times none")}
	for _, by := range judges {
		if len(r.over(r.columns(by)[0])) == 0 {
			continue
		}
		row, ratio := []string{by, spreadOf(r.costs[r.without(by).String()]).middle()}, []string{by}
		for _, k := range r.columns(by) {
			row = append(row, spreadOf(r.costs[k.String()]).middle())
			ratio = append(ratio, interval(r.over(k)))
		}
		rows, than = append(rows, row), append(than, ratio)
	}
	fmt.Fprintf(b, "\n## "+connectionsHeading+"\n\nIn microseconds.\n\n")
	writeTable(b, 1, rows)
	fmt.Fprintf(b, "\nIn relation to no rule.\n\n")
	writeTable(b, 1, than)
}

func (r *rulesResults) writeDecisions(b *strings.Builder) {
	fmt.Fprintf(b, "\n## "+decisionsHeading+"\n\nIn nanoseconds. The walk looks at a prefix and a port of each rule, side by side in memory: no list is faster.\n\n")
	rows := [][]string{sizesHead("rules", r.lists)}
	than := []string{"walk / usher"}
	for _, by := range []string{decision, listWalk} {
		row := []string{by}
		for _, n := range r.lists {
			row = append(row, spreadOf(r.times.of(by, n)).middle())
		}
		rows = append(rows, row)
	}
	for _, n := range r.lists {
		than = append(than, spreadOf(r.times.over(listWalk, n, decision, n)).middle())
	}
	writeTable(b, 1, append(rows, than))
	connection := 1000 * spreadOf(r.costs[r.without(byUsher).String()]).median
	fmt.Fprintf(b, "\nWhere it does not matter: usher takes %s µs for a connection without rules. A walk past", number(connection/1000))
	for i, n := range r.lists {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, " %s would add %s", grouped(n), partOf(spreadOf(r.times.of(listWalk, n)).median/connection))
	}
	fmt.Fprintf(b, ". The decision adds %s at most.\n", partOf(r.slowestDecision()/connection))
}

func (r *rulesResults) slowestDecision() (slowest float64) {
	for _, n := range r.lists {
		slowest = max(slowest, spreadOf(r.times.of(decision, n)).median)
	}
	return slowest
}

// partOf writes a part in percent.
func partOf(v float64) string { return fine(100*v) + " %" }

// rulesFigure shows what a connection costs past the most rules, and the decision alone.
func rulesFigure(r *reader) figure {
	most := grouped(rulesStudy.sizes[len(rulesStudy.sizes)-1])
	times := r.table("rules.md", connectionsHeading, 1)
	b := &bars{title: fmt.Sprintf("A new connection past %s rules, none is 1", most), unit: "×"}
	for _, by := range judges {
		if times.has(by) {
			b.rows = append(b.rows, bar{name: by, isMain: by == byUsher, cell: r.cell(times, by, most)})
		}
	}
	alone := r.table("rules.md", decisionsHeading, 0)
	p := &chart{title: "The decision by itself", tall: 190, x: axis{name: "rules", write: counted}, y: axis{write: nanosecond}, lines: []line{
		{listWalk, reference(0), r.across(alone, listWalk)}, {decision, marked(0), r.across(alone, decision)},
	}}
	r.fitted(p)
	usher, nft := r.cell(times, byUsher, most), r.cell(times, byNFT, most)
	r.claim(usher.value < 1.1 && nft.value > 2, "rules cost hardly anything at usher, and much in iptables")
	return figure{
		title:  fmt.Sprintf("A connection past %s rules costs usher %s times as much as one past none; iptables (nf_tables), %s times", most, usher.text, nft.text),
		note:   "CPU time; smaller is better. Medians of " + r.page("rules.md").rounds + "; whiskers are where the median is with a confidence of 95 %.",
		panels: []panel{b, p},
	}
}
