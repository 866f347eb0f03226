package app

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/discovery"
)

// firstLookups bounds how long silent name servers may hold up the start.
const firstLookups = 5 * time.Second

// resolveNames starts to look up the host names among the backends, and waits for the first answers. A name without an
// answer is a backend that is down; the watcher goes on asking.
func (r *running) resolveNames(ctx context.Context) {
	r.names = discovery.NewWatcher(discovery.Resolver{}, 0, r.resolved)
	var hosts []string
	for _, k := range r.keepers {
		hosts = append(hosts, k.hosts()...)
	}
	r.names.Set(hosts)
	ctx, cancel := context.WithTimeout(ctx, firstLookups)
	defer cancel()
	r.names.WaitFirst(ctx)
}

// resolved tells every service that uses a name what is new of it. Calls come one at a time.
func (r *running) resolved(host string, addrs []netip.Addr, err error) {
	log := r.log.With(zap.String("host", host))
	switch {
	case err == nil:
		log.Info("name resolves", zap.Stringers("addresses", addrs))
	case len(addrs) == 0:
		log.Warn("name does not resolve, its backend is down", zap.Error(err))
	default:
		log.Warn("name does not resolve, its last addresses stay", zap.Stringers("addresses", addrs), zap.Error(err))
	}
	for _, k := range r.keepers {
		if slices.Contains(k.hosts(), host) {
			k.resolved(host, addrs)
		}
	}
}
