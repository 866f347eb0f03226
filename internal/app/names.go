package app

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/discovery"
)

const (
	// firstLookups bounds how long silent name servers may hold up the start of all services.
	firstLookups = time.Second
	// quietWait is how long the start waits for anything before it says so.
	quietWait = 500 * time.Millisecond
)

// resolveNames starts to look up the host names among the backends, and waits for the first answers. A name without an
// answer is a backend that is down; the watcher goes on asking.
func (r *running) resolveNames(ctx context.Context, resolver discovery.Resolver) {
	r.names = discovery.NewWatcher(resolver, 0, r.resolved)
	var hosts []string
	for _, k := range r.keepers {
		hosts = append(hosts, k.hosts()...)
	}
	r.names.Set(hosts)
	bounded, cancel := context.WithTimeout(ctx, firstLookups)
	defer cancel()
	quiet, cancelQuiet := context.WithTimeout(bounded, quietWait)
	defer cancelQuiet()
	r.names.WaitFirst(quiet)
	if names := r.unanswered(); len(names) > 0 && ctx.Err() == nil {
		r.log.Info("waiting for names", zap.Strings("names", names))
		r.names.WaitFirst(bounded)
	}
	if names := r.unanswered(); len(names) > 0 && ctx.Err() == nil {
		r.log.Warn("going on without an answer for names", zap.Strings("names", names))
	}
}

// unanswered returns the host names whose first look-up has not ended.
func (r *running) unanswered() []string {
	var names []string
	for _, k := range r.keepers {
		k.mu.Lock()
		for name := range k.unanswered {
			names = append(names, name)
		}
		k.mu.Unlock()
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// resolved tells every service that uses a name what is new of it. Calls come one at a time.
func (r *running) resolved(host string, addrs []netip.Addr, err error) {
	log := r.log.With(zap.String("host", host))
	r.journal.add(func() {
		switch {
		case err == nil:
			log.Info("name resolves", zap.Stringers("addresses", addrs))
		case len(addrs) == 0:
			log.Warn("name does not resolve, its backend is down", zap.Error(err))
		default:
			log.Warn("name does not resolve, its last addresses stay", zap.Stringers("addresses", addrs), zap.Error(err))
		}
	})
	for _, k := range r.keepers {
		if slices.Contains(k.hosts(), host) {
			k.resolved(host, addrs)
		}
	}
	r.journal.flush()
}
