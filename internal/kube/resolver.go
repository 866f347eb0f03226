package kube

import (
	"context"

	"go.uber.org/zap"

	"usher/internal/kube/names"
	"usher/internal/kube/planner"
)

// hostConfig is the resolv.conf of this machine.
const hostConfig = "/etc/resolv.conf"

// resolver serves the names of Services. A nil one serves none.
type resolver struct {
	zone   *names.Zone
	server *names.Server
	log    *zap.Logger
}

// openResolver binds the address of --dns, if there is one, and writes --resolv-conf. Names are served by serve.
func openResolver(s *settings, log *zap.Logger) (*resolver, error) {
	if s.DNS == "" {
		return nil, nil
	}
	zone, err := names.New(s.ClusterDomain)
	if err != nil {
		return nil, err
	}
	host, err := names.ReadHostConfig(hostConfig)
	if err != nil && s.DNSUpstream == "" {
		log.Warn("there are no name servers for names outside the cluster: give --dns-upstream", zap.Error(err))
	}
	upstreams := host.Servers
	if s.DNSUpstream != "" {
		if upstreams, err = names.ParseUpstreams(s.DNSUpstream); err != nil {
			return nil, err
		}
	}
	server, err := names.Listen(s.DNS, names.Options{Zone: zone, Upstreams: upstreams, Log: log})
	if err != nil {
		return nil, err
	}
	if s.ResolvConf != "" {
		if err := names.WriteResolvConf(s.ResolvConf, server.Addr(), "default", s.ClusterDomain, host); err != nil {
			server.Close()
			return nil, err
		}
	}
	log.Info("names are served", zap.Stringer("dns", server.Addr()), zap.String("domain", s.ClusterDomain), zap.Stringers("upstream", upstreams))
	return &resolver{zone: zone, server: server, log: log}, nil
}

// set makes a record that of a Service; nil: it is gone.
func (r *resolver) set(key planner.Key, record *planner.Record) {
	switch {
	case r == nil:
	case record == nil:
		r.zone.Delete(key)
	default:
		r.zone.Set(*record)
	}
}

// serve answers queries until ctx ends.
func (r *resolver) serve(ctx context.Context) {
	if err := r.server.Serve(ctx); err != nil {
		r.log.Error("names are not served any more: restart usher", zap.Error(err))
	}
}

// close gives up the address, also if it was never served.
func (r *resolver) close() {
	if r != nil {
		_ = r.server.Close() // after serve it is closed
	}
}
