package control

import (
	"cmp"
	"fmt"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/config"
	"usher/internal/reconcile"
	"usher/proxy"
	"usher/proxy/flow"
)

// service is one service, as it runs. It does not change once others have it: a change makes another one.
type service struct {
	owner         Owner
	given         *config.Service      // by its owner
	plan          *config.Service      // the same with what is derived
	wanted        *config.Service      // the same with the addresses of its listeners' names
	config        *config.Service      // the same with the ports that the kernel chose
	keeper        *reconcile.Service   // of its pool
	data          *proxy.ServiceConfig // of wanted
	running       *proxy.Service       // nil: not yet
	refused       []Refusal            // listeners of plan that wanted lacks
	countsPackets bool
	lacking       []int // the same in wanted, in order, while a change is being prepared
}

// withGiven returns a copy that an equal config was given for.
func (s *service) withGiven(given *config.Service) *service {
	if s.given == given {
		return s
	}
	same := *s
	same.given = given
	return &same
}

// prepare makes what the service needs to run. It goes on with the pool that it had before, if it was there.
func (s *service) prepare(before *service, r *reconcile.Reconciler) (err error) {
	if before != nil {
		s.keeper = before.keeper
		if err := reconcile.Check(s.wanted); err != nil {
			return err
		}
	} else if s.keeper, err = r.NewService(s.wanted); err != nil {
		return err
	}
	return s.setData()
}

// setData derives the data path's config. Counting packets costs system calls, so only services with a reader of packets
// count them.
func (s *service) setData() (err error) {
	if s.data, err = dataConfig(s.wanted, s.keeper); err == nil {
		s.data.CountsPackets = s.countsPackets
	}
	return err
}

// desired returns what the reconciler gets of services.
func desired(services []*service) []reconcile.Desired {
	all := make([]reconcile.Desired, len(services))
	for i, s := range services {
		all[i] = reconcile.Desired{Service: s.keeper, Config: s.config}
	}
	return all
}

// dataConfig returns the data path's part of a service.
func dataConfig(s *config.Service, keeper *reconcile.Service) (*proxy.ServiceConfig, error) {
	persist, err := persistence(s.Persist)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Name, err)
	}
	return &proxy.ServiceConfig{
		Name:             s.Name,
		Listeners:        Listeners(s.Listeners),
		Pool:             keeper.Pool(),
		ConnectTimeout:   s.ConnectTimeout,
		IdleTimeout:      s.IdleTimeout,
		QueueLength:      s.Queue.Length,
		QueueTimeout:     s.Queue.Timeout,
		MaxAge:           s.MaxAge.Max,
		MaxAgeJitter:     float64(s.MaxAge.Jitter) / 100,
		Persist:          persist,
		Observer:         keeper.Observer(s),
		ReclaimIdle:      s.ReclaimIdle,
		HalfCloseTimeout: s.HalfCloseTimeout,
		Reserve:          s.Reserve,
		Wait:             s.Wait,
		WaitUp:           s.Health.IsDeep(),
		AbortOnClose:     s.AbortOnClose,
		Empty:            emptyPolicy(s),
		Access:           accessConfig(&s.Access),
		SendProxy:        flow.SendProxy{Version: s.SendProxy.Version, Every: s.SendProxy.Every, ID: s.SendProxyID},
		LogAccess:        s.LogAccess,
		UDP:              udpConfig(s.UDP),
	}, nil
}

// emptyPolicy returns what clients get of a service without a backend.
func emptyPolicy(s *config.Service) flow.EmptyPolicy {
	switch {
	case s.IsEmpty() && s.OnEmpty == config.EmptyClose:
		return flow.EmptyClose
	case s.IsEmpty() && s.OnEmpty == config.EmptyDrop:
		return flow.EmptyDrop
	}
	return flow.EmptyRefuse
}

// accessConfig returns the data path's part of who may come in.
func accessConfig(a *config.Access) flow.AccessConfig {
	return flow.AccessConfig{
		Allow:          a.Allow,
		Deny:           a.Deny,
		DropDenied:     a.DropDenied,
		MaxClientConns: a.MaxClientConns.Most,
		ConnsBits:      clientBits(a.MaxClientConns.Bits4, a.MaxClientConns.Bits6),
		ClientRate:     a.ClientRate.Rate,
		RateBits:       clientBits(a.ClientRate.Bits4, a.ClientRate.Bits6),
		Rate:           a.Rate,
		AcceptProxy:    a.AcceptProxy,
		ProxyOnly:      a.ProxyOnly,
		HeaderTimeout:  a.HeaderTimeout,
		HelloTimeout:   a.HelloTimeout,
	}
}

func clientBits(four, six int) flow.ClientBits {
	return flow.ClientBits{IPv4: uint8(four), IPv6: uint8(six)}
}

// udpConfig returns the data path's part of a udp service's options.
func udpConfig(u config.UDPOptions) proxy.UDPConfig {
	return proxy.UDPConfig{
		IdleTimeout:      u.IdleTimeout,
		UnrepliedTimeout: u.UnrepliedTimeout,
		Replies:          u.Replies,
		OnePacket:        u.OnePacket,
		MaxFlows:         u.MaxFlows,
		MaxClientFlows:   u.MaxClientFlows,
	}
}

// persistence returns the data path's form of a persistence option.
func persistence(p config.Persist) (proxy.Persist, error) {
	mask, err := conntrack.NewMask(cmp.Or(p.Bits4, 32), cmp.Or(p.Bits6, 128))
	return proxy.Persist{
		On:             p.Timeout > 0,
		AffinityConfig: conntrack.AffinityConfig{Timeout: p.Timeout, Mask: mask},
		Allow:          balancer.AffinityPolicy{Quiesced: !p.LeaveQuiesced, Overloaded: !p.LeaveOverloaded},
	}, err
}
