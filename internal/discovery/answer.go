package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"time"
)

// SRV begins the name of an SRV record set, as in "srv:_http._tcp.example.com".
const SRV = "srv:"

// minTTL and maxTTL bound how long an answer holds.
const (
	minTTL = time.Second
	maxTTL = 5 * time.Minute
)

// Record is one address of a name.
type Record struct {
	Host string     // the name itself, or the target of an SRV record
	Addr netip.Addr // never IPv4-mapped
	SRV  SRVRecord  // zero for names of hosts
}

// SRVRecord is what an SRV record has beside its target (RFC 2782).
type SRVRecord struct{ Port, Priority, Weight uint16 }

// Answer is the result of one lookup.
type Answer struct {
	Records []Record      // sorted, without duplicates
	TTL     time.Duration // how long they hold, within bounds; 0: unknown
	// Missing says which address family or target had no answer, nil if none.
	Missing error

	missing []scope // what Missing is about
}

// scope is the addresses of one family of a host.
type scope struct {
	host  string
	isIP6 bool
}

func (r Record) scope() scope { return scope{r.Host, r.Addr.Is6()} }

// keepMissing adds the former records about which the answer says nothing.
func (a *Answer) keepMissing(before []Record) {
	for _, r := range before {
		if slices.Contains(a.missing, r.scope()) {
			a.Records = append(a.Records, r)
		}
	}
	a.sort()
}

func (a *Answer) sort() {
	sort.Slice(a.Records, func(i, j int) bool {
		x, y := &a.Records[i], &a.Records[j]
		return cmp.Or(
			cmp.Compare(x.SRV.Priority, y.SRV.Priority),
			x.Addr.Compare(y.Addr),
			cmp.Compare(x.SRV.Port, y.SRV.Port),
			cmp.Compare(x.Host, y.Host),
			cmp.Compare(x.SRV.Weight, y.SRV.Weight),
		) < 0
	})
	a.Records = slices.Compact(a.Records)
}

// boundTTL returns a TTL in seconds within bounds.
func boundTTL(seconds uint32) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, minTTL), maxTTL)
}
