package control

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/conntrack"
	"usher/internal/config"
	"usher/proxy"
)

// FlowFilter says which flows are meant: those that pass every condition. Of a list one word
// has to be right. The zero value lets all pass.
type FlowFilter struct {
	Client     netip.Prefix // of the client's address
	ClientPort uint16
	Listener   []string
	Service    []string
	Backend    []string // "-" is a flow without one
	Network    []string // tcp, unix, udp
	State      []string // of conntrack.StateNames
	MinAge     time.Duration
	MinIdle    time.Duration
	MinBytes   uint64 // both ways together
	MinTries   int
	ID         map[proxy.FlowID]bool
	Words      []string // each in a column of the flow as it is listed; in small letters
	Denied     bool     // that today's rules, or the lists of clients of their service, would refuse
}

// FlowQuery is what a reader of flows asks for.
type FlowQuery struct {
	FlowFilter
	// All says that a filter which lets all pass is meant so. Kill needs it then.
	All bool
	// Sort is a column, or empty for no order. With it there are the first Top rows, at most
	// MaxTop; with IsReversed the last ones, from the end.
	Sort       string
	IsReversed bool
	// Top is how many rows there are at most; zero is all, with Sort MaxTop.
	Top int
	// RTT has the kernel asked for the round trip time to each client, Sockets also for the other addresses of the
	// flow and its packets.
	RTT, Sockets bool
}

// MaxTop bounds the rows that a reader gets in order: they are kept in memory until then.
const MaxTop = 10_000

// flowParameters are the names that ParseFlowQuery knows, and what each does with a value.
var flowParameters = map[string]func(*FlowQuery, string) error{
	"client":    (*FlowQuery).setClient,
	"listener":  func(q *FlowQuery, v string) error { return addWords(&q.Listener, v, nil) },
	"service":   func(q *FlowQuery, v string) error { return addWords(&q.Service, v, nil) },
	"backend":   func(q *FlowQuery, v string) error { return addWords(&q.Backend, v, nil) },
	"network":   func(q *FlowQuery, v string) error { return addWords(&q.Network, v, networks) },
	"state":     func(q *FlowQuery, v string) error { return addWords(&q.State, v, conntrack.StateNames()) },
	"min-age":   func(q *FlowQuery, v string) error { return setDuration(&q.MinAge, v) },
	"min-idle":  func(q *FlowQuery, v string) error { return setDuration(&q.MinIdle, v) },
	"min-bytes": func(q *FlowQuery, v string) (err error) { q.MinBytes, err = parseCount(v, 64); return err },
	"denied":    func(q *FlowQuery, v string) error { return setSwitch(&q.Denied, v) },
	"min-tries": func(q *FlowQuery, v string) error { return setInt(&q.MinTries, v) },
	"sort":      (*FlowQuery).setSort,
	"top":       func(q *FlowQuery, v string) error { return setInt(&q.Top, v) },
	"id":        func(q *FlowQuery, v string) error { return addIDs(&q.ID, v) },
	"match":     func(q *FlowQuery, v string) error { q.Words = strings.Fields(strings.ToLower(v)); return nil },
	"sockets":   func(q *FlowQuery, v string) error { return setSwitch(&q.Sockets, v) },
	"rtt":       func(q *FlowQuery, v string) error { return setSwitch(&q.RTT, v) },
	"all":       func(q *FlowQuery, v string) error { return setSwitch(&q.All, v) },
}

// listParameters take several words.
var listParameters = []string{"listener", "service", "backend", "network", "state", "id"}

var networks = []string{"tcp", "unix", "udp"}

// FlowParameters returns the names that ParseFlowQuery knows, in order.
func FlowParameters() []string {
	var all []string
	for name := range flowParameters {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// FlowQueryError says what is wrong with a parameter.
type FlowQueryError struct {
	Parameter string
	Problem   string
}

func (e *FlowQueryError) Error() string { return fmt.Sprintf("%s: %s", e.Parameter, e.Problem) }

// ParseFlowQuery reads the parameters of a request, which commands have as flags. Lists are
// words with commas between them, or a parameter that is repeated. The error is a
// *FlowQueryError.
func ParseFlowQuery(values url.Values) (FlowQuery, error) {
	var q FlowQuery
	for name, all := range values {
		set := flowParameters[name]
		if set == nil {
			return q, &FlowQueryError{name, "unknown parameter" + config.OrHave(name, FlowParameters())}
		}
		if len(all) > 1 && !slices.Contains(listParameters, name) {
			return q, &FlowQueryError{name, fmt.Sprintf("it is there %d times", len(all))}
		}
		for _, v := range all {
			if err := set(&q, v); err != nil {
				return q, &FlowQueryError{name, err.Error()}
			}
		}
	}
	if q.Sort != "" && q.Top > MaxTop {
		return q, &FlowQueryError{"top", fmt.Sprintf("at most %d rows can be sorted", MaxTop)}
	}
	return q, nil
}

// setClient takes an address, an address with a port, or a prefix.
func (q *FlowQuery) setClient(v string) error {
	if p, err := netip.ParsePrefix(v); err == nil {
		q.Client, q.ClientPort = p.Masked(), 0
		return nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		at, err := netip.ParseAddrPort(v)
		if err != nil {
			return fmt.Errorf("%q is no address, prefix or address:port", v)
		}
		a, q.ClientPort = at.Addr(), at.Port()
	}
	a = a.Unmap().WithZone("")
	q.Client = netip.PrefixFrom(a, a.BitLen())
	return nil
}

// setSort takes a column, with a minus in front for the other way round.
func (q *FlowQuery) setSort(v string) error {
	v, q.IsReversed = strings.CutPrefix(v, "-")
	if flowOrders[v] == nil {
		return fmt.Errorf("unknown column %q%s", v, config.OrHave(v, FlowColumns()))
	}
	q.Sort = v
	return nil
}

// addWords adds words with commas between them. Where have lists them, there are no others.
func addWords(to *[]string, v string, have []string) error {
	for word := range strings.SplitSeq(v, ",") {
		if word = strings.TrimSpace(word); word == "" {
			return fmt.Errorf("%q has an empty word", v)
		}
		if have != nil && !slices.Contains(have, word) {
			return fmt.Errorf("unknown word %q%s", word, config.OrHave(word, have))
		}
		*to = append(*to, word)
	}
	return nil
}

func addIDs(to *map[proxy.FlowID]bool, v string) error {
	if *to == nil {
		*to = make(map[proxy.FlowID]bool)
	}
	for word := range strings.SplitSeq(v, ",") {
		id, err := proxy.ParseFlowID(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		(*to)[id] = true
	}
	return nil
}

func setDuration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no duration such as 90s or 1h", v)
	}
	*to = d
	return nil
}

func setInt(to *int, v string) error {
	n, err := parseCount(v, 31)
	*to = int(n)
	return err
}

func parseCount(v string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number from 0 to %d", v, uint64(1)<<bits-1)
	}
	return n, nil
}

// setSwitch takes a word of a boolean; the empty one is true, for "?rtt".
func setSwitch(to *bool, v string) (err error) {
	if v == "" {
		*to = true
		return nil
	}
	if *to, err = strconv.ParseBool(v); err != nil {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	return nil
}

// IsAll reports whether the filter lets all pass.
func (f *FlowFilter) IsAll() bool {
	return !f.Denied && !f.Client.IsValid() && f.ClientPort == 0 && f.MinAge == 0 && f.MinIdle == 0 && f.MinBytes == 0 && f.MinTries == 0 &&
		len(f.Listener)+len(f.Service)+len(f.Backend)+len(f.Network)+len(f.State)+len(f.ID)+len(f.Words) == 0
}

// Match reports whether a flow passes, as far as its row says: not whether it is denied. now is the time on the server's
// clock.
func (f *FlowFilter) Match(r *proxy.Row, now time.Duration) bool {
	client := r.Client()
	switch {
	case f.Client.IsValid() && !f.Client.Contains(client.Addr()),
		f.ClientPort != 0 && f.ClientPort != client.Port(),
		now-r.Created < f.MinAge,
		now-r.Touched < f.MinIdle,
		r.Up+r.Down < f.MinBytes,
		int(r.Tries) < f.MinTries,
		len(f.ID) > 0 && !f.ID[r.FlowID()],
		len(f.Service) > 0 && !slices.Contains(f.Service, r.Service.Name),
		len(f.Network) > 0 && !slices.Contains(f.Network, r.Network()),
		len(f.State) > 0 && !slices.Contains(f.State, r.State.String()),
		len(f.Backend) > 0 && !slices.Contains(f.Backend, backendText(r)),
		len(f.Listener) > 0 && !slices.Contains(f.Listener, listenerText(r)):
		return false
	}
	return len(f.Words) == 0 || f.hasWords(r)
}

// hasWords reports whether each of the words is in a column.
func (f *FlowFilter) hasWords(r *proxy.Row) bool {
	text := strings.ToLower(strings.Join([]string{
		clientText(r), listenerText(r), r.Service.Name, backendText(r), r.Network(), r.State.String(),
	}, "\n"))
	return !slices.ContainsFunc(f.Words, func(word string) bool { return !strings.Contains(text, word) })
}

// clientText is the client's address as it is listed.
func clientText(r *proxy.Row) string {
	if c := r.Client(); c.IsValid() {
		return c.String()
	}
	return "unix"
}

// backendText is the backend's address as it is listed; "-" if there is none yet.
func backendText(r *proxy.Row) string {
	if r.Backend == nil {
		return "-"
	}
	return r.Backend.String()
}

// listenerText is the listener's address; what network it is of is a column of its own.
func listenerText(r *proxy.Row) string {
	l := r.Listener()
	if l.Network == "unix" {
		return proxy.Listener{Network: "unix", Path: l.Path}.String()
	}
	l.Network = "tcp"
	return l.String()
}
