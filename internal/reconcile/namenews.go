package reconcile

import (
	"cmp"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"usher/internal/discovery"
)

const (
	// singly is how many names have a log line of their own; more at a time are counted.
	singly = 3
	// shown is how many names a line that counts them gives as examples.
	shown = 5
	// newsRest follows the lines of single names, burstRest a line that counts: when a name server goes, names are found
	// out one after the other.
	newsRest, burstRest = time.Second, 10 * time.Second
)

// nameNews gathers what is new of names for the log. Of a name the last news counts.
type nameNews struct {
	pending []discovery.Update
	place   map[string]int // of each name in pending
	rest    time.Time      // when the next lines are due
}

func (n *nameNews) add(is discovery.Update) {
	if i, ok := n.place[is.Name]; ok {
		n.pending[i] = is
		return
	}
	if n.place == nil {
		n.place = make(map[string]int)
	}
	n.place[is.Name] = len(n.pending)
	n.pending = append(n.pending, is)
}

// take returns the lines that are due, or after how long they are; 0: there are none.
func (n *nameNews) take(now time.Time) (lines []line, again time.Duration) {
	if len(n.pending) == 0 {
		return nil, 0
	}
	if now.Before(n.rest) {
		return nil, n.rest.Sub(now)
	}
	pending := n.pending
	n.pending, n.place = nil, nil
	n.rest = now.Add(newsRest)
	if len(pending) <= singly {
		for _, is := range pending {
			lines = append(lines, nameLine(kindOf(is), is))
		}
		return lines, 0
	}
	n.rest = now.Add(burstRest)
	var byKind [len(nameKinds)][]discovery.Update
	for _, is := range pending {
		byKind[kindOf(is)] = append(byKind[kindOf(is)], is)
	}
	for kind, news := range byKind {
		if len(news) > 0 {
			lines = append(lines, nameLine(kind, news...))
		}
	}
	return lines, 0
}

// nameKinds are the messages for one name and for several.
var nameKinds = [...]struct{ one, several string }{
	{"name resolves", "names resolve"},
	{"name resolves in part", "names resolve in part"},
	{"name does not resolve, its last addresses stay", "names do not resolve, their last addresses stay"},
	{"name does not resolve, its backend is down", "names do not resolve, their backends are down"},
}

// kindOf returns an index of nameKinds.
func kindOf(is discovery.Update) int {
	switch {
	case is.Err == nil && is.Missing == nil:
		return 0
	case is.Err == nil:
		return 1
	case len(is.Records) > 0:
		return 2
	}
	return 3
}

// nameLine is the line for news of one kind.
func nameLine(kind int, news ...discovery.Update) line {
	l := line{zap.WarnLevel, nameKinds[kind].one, nil}
	if kind == 0 {
		l.level = zap.InfoLevel
	}
	first := news[0]
	if len(news) == 1 {
		l.fields = append(l.fields, zap.String("host", first.Name))
		if len(first.Records) > 0 {
			l.fields = append(l.fields, zap.Strings("addresses", addressWords(first.Records)))
		}
	} else {
		l.message = nameKinds[kind].several
		hosts := make([]string, len(news))
		for i, is := range news {
			hosts[i] = is.Name
		}
		l.fields = append(l.fields, someNames(hosts)...)
	}
	if why := cmp.Or(first.Err, first.Missing); why != nil {
		l.fields = append(l.fields, zap.Error(why))
	}
	return l
}

// addressWords writes the addresses of a host, or addresses with ports of SRV records.
func addressWords(records []discovery.Record) []string {
	words := make([]string, len(records))
	for i, r := range records {
		words[i] = r.Addr.String()
		if r.SRV != (discovery.SRVRecord{}) {
			words[i] = netip.AddrPortFrom(r.Addr, r.SRV.Port).String()
		}
	}
	return words
}

// someNames names a few of many.
func someNames(hosts []string) []zap.Field {
	if len(hosts) <= shown {
		return []zap.Field{zap.Strings("names", hosts)}
	}
	return []zap.Field{zap.Int("count", len(hosts)), zap.Strings("names", append(hosts[:shown:shown], "..."))}
}
