package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/discovery"
)

const (
	// firstLookups bounds how long silent name servers may hold up the start of all services.
	firstLookups = time.Second
	// QuietWait is how long a start waits for anything before it says so.
	QuietWait = 500 * time.Millisecond
	// answersGather is how long answers gather before services follow them: they come in bursts.
	answersGather = 10 * time.Millisecond
)

// names looks up the host names among the backends of services. As a task of the queue it logs what is new of them.
type names struct {
	watcher *discovery.Watcher
	queue   *queue
	job     *job
	log     *zap.Logger

	mu      sync.Mutex
	begun   bool
	users   map[string][]*Service // of each name
	answers map[string]discovery.Update
	news    nameNews
	servers []line // of name servers
}

// use is a name that a service has.
type use struct {
	service *Service
	host    string
}

func newNames(resolver discovery.Resolver, q *queue, log *zap.Logger) *names {
	n := &names{queue: q, log: log, users: make(map[string][]*Service), answers: make(map[string]discovery.Update)}
	n.job = &job{task: n}
	resolver.OnServer = n.onServer
	n.watcher = discovery.NewWatcher(resolver, 0, n.onUpdate)
	return n
}

// change follows services: the names are looked up that they have from now on.
func (n *names) change(changes []serviceChange) {
	left := make(map[use]bool)
	had := make(map[string]int) // users before
	n.mu.Lock()
	for _, c := range changes {
		before, now := hostsIn(c.before), hostsIn(c.now)
		for host := range before {
			if !now[host] {
				had[host] = len(n.users[host])
				left[use{c.service, host}] = true
			}
		}
	}
	for host := range had {
		n.users[host] = slices.DeleteFunc(n.users[host], func(s *Service) bool { return left[use{s, host}] })
	}
	for _, c := range changes {
		before := hostsIn(c.before)
		for host := range hostsIn(c.now) {
			if before[host] {
				continue
			}
			if _, known := had[host]; !known {
				had[host] = len(n.users[host])
			}
			n.users[host] = append(n.users[host], c.service)
		}
	}
	changed := false
	for host, before := range had {
		users := len(n.users[host])
		changed = changed || (users == 0) != (before == 0)
		if users == 0 {
			delete(n.users, host)
			delete(n.answers, host)
		}
	}
	var hosts []string
	if changed {
		hosts = slices.Collect(maps.Keys(n.users))
	}
	n.mu.Unlock()
	if changed {
		n.watcher.Set(hosts)
	}
}

// hostsIn returns the names among the backends of a service, which may be nil.
func hostsIn(s *config.Service) map[string]bool {
	if s == nil {
		return nil
	}
	return hostsOf(s.Backends)
}

// state returns the answers for names that a service has seen.
func (n *names) state(seen map[string][]discovery.Record) (records []NameRecord) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for host, known := range seen {
		records = append(records, NameRecord{host, known, n.answers[host].Err != nil})
	}
	return records
}

// errFailing stands for the error of a look-up from before, which was logged.
var errFailing = errors.New("does not resolve")

// restore has names go on from former answers.
func (n *names) restore(records []NameRecord) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range records {
		answer := discovery.Update{Name: r.Host, Records: r.Records}
		if r.IsFailing {
			answer.Err = errFailing
		}
		n.answers[r.Host] = answer
		n.watcher.Know(answer)
	}
}

// hostsOf returns the names among backends that are to be looked up, nil if there are none.
func hostsOf(backends []config.Backend) map[string]bool {
	var hosts map[string]bool
	for i := range backends {
		if name := backends[i].Addr.HostName(); name != "" {
			if hosts == nil {
				hosts = make(map[string]bool)
			}
			hosts[name] = true
		}
	}
	return hosts
}

// onUpdate hands an answer to every service that uses the name.
func (n *names) onUpdate(is discovery.Update) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users[is.Name] == nil {
		return
	}
	n.answers[is.Name] = is
	n.news.add(is)
	n.queue.add(n.job, answersGather)
	for _, s := range n.users[is.Name] {
		s.observeLater(nameAnswer(is.Name, is.Records), answersGather)
	}
}

// onServer logs which name server is at fault when names do not resolve, or resolve late.
func (n *names) onServer(server string, err error) {
	l := line{zap.InfoLevel, "name server answers again", []zap.Field{zap.String("server", server)}}
	if err != nil {
		l = line{zap.WarnLevel, "name server does not answer", []zap.Field{zap.String("server", server), zap.Error(err)}}
	}
	n.mu.Lock()
	n.servers = append(n.servers, l)
	n.mu.Unlock()
	n.queue.add(n.job, 0)
}

// begin lets lines through to the log.
func (n *names) begin() {
	n.mu.Lock()
	n.begun = true
	n.mu.Unlock()
	n.reconcile()
}

// reconcile logs the news that are due, and returns when the next are. Services call it too, before they log what
// follows from an answer.
func (n *names) reconcile() (again time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.begun {
		return 0
	}
	write(n.log, n.servers)
	n.servers = nil
	lines, again := n.news.take(time.Now())
	write(n.log, lines)
	return again
}

// waitFirst waits for the first answers, for a second at the most. A name without an answer is a backend that is down; the
// watcher goes on asking.
func (n *names) waitFirst(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, firstLookups)
	defer cancel()
	quiet, cancelQuiet := context.WithTimeout(bounded, QuietWait)
	defer cancelQuiet()
	n.watcher.WaitFirst(quiet)
	if hosts := n.unanswered(); len(hosts) > 0 && ctx.Err() == nil {
		n.log.Info("waiting for names", someNames(hosts)...)
		n.watcher.WaitFirst(bounded)
	}
	if hosts := n.unanswered(); len(hosts) > 0 && ctx.Err() == nil {
		n.log.Warn("going on without an answer for names", someNames(hosts)...)
	}
}

// lack reports whether a name that services have from now on has had no answer yet.
func (n *names) lack(changes []serviceChange) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range changes {
		for host := range hostsIn(c.now) {
			if _, has := n.answers[host]; !has {
				return true
			}
		}
	}
	return false
}

// configure gives a service what it is from now on, with the answers for its names.
func (n *names) configure(c serviceChange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []observation{c.service.configured(c.now)}
	for host := range hostsIn(c.now) {
		if answer, has := n.answers[host]; has {
			all = append(all, nameAnswer(host, answer.Records))
		}
	}
	c.service.observe(func(o *observations) {
		for _, each := range all {
			each(o)
		}
	})
}

// unanswered returns the host names whose first look-up has not ended.
func (n *names) unanswered() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var hosts []string
	for host := range n.users {
		if _, has := n.answers[host]; !has {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts
}
