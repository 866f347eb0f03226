package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
)

// Override is what an operator sets of a backend by hand. It stands above the configuration and above what the backend's
// agent says; of two admin states the stricter one counts. A field that is nil stays as it is.
type Override struct {
	Admin   *balancer.AdminState // Ready takes back what was set
	Weight  *int
	Timeout time.Duration // after which what is set here ends; 0: when it is taken back
}

// maxTimeout bounds the timeout of an override, as package config bounds all others.
const maxTimeout = 365 * 24 * time.Hour

// Check returns an error if no backend can have the override.
func (o Override) Check() error {
	if o.Weight != nil && (*o.Weight < 0 || *o.Weight > config.MaxWeight) {
		return fmt.Errorf("weight %d is out of range (0 to %d)", *o.Weight, config.MaxWeight)
	}
	if o.Timeout < 0 || o.Timeout > maxTimeout {
		return fmt.Errorf("timeout %s is out of range (at most %s)", config.Delay(o.Timeout), config.Delay(maxTimeout))
	}
	return nil
}

// ErrNoBackend is the error of an override for an address that is not one of the service's.
var ErrNoBackend = errors.New("no such backend")

// override is what holds of a backend by hand. It never changes. Times are those of the reconciler's clock; 0: none.
type override struct {
	admin                 balancer.AdminState
	hasWeight             bool
	weight                int
	adminEnds, weightEnds time.Duration
}

// SetOverride sets what o says of a backend, and returns when new flows follow it or ctx ends. The address is that of a
// backend as it is shown. It may also be HOST:PORT as configured: this is for all addresses that the name has, now and
// later. An override lasts until it ends, is taken back, or its backend is no longer configured.
func (s *Service) SetOverride(ctx context.Context, address string, o Override) error {
	if err := o.Check(); err != nil {
		return err
	}
	return s.changeOverride(ctx, address, func(before *override) *override { return before.with(o, s.now()) })
}

// ClearOverride takes back what was set of a backend, and returns when new flows follow it or ctx ends.
func (s *Service) ClearOverride(ctx context.Context, address string) error {
	return s.changeOverride(ctx, address, func(*override) *override { return nil })
}

func (s *Service) changeOverride(ctx context.Context, address string, change func(*override) *override) error {
	s.owner.queue.flush(ctx, s.job) // what was configured before counts
	e, has := s.endpoint(address)
	if !has {
		return ErrNoBackend
	}
	s.observe(func(o *observations) {
		o.isNew = true
		o.setOverride(e, change(o.overrides[e]))
	})
	s.owner.queue.flush(ctx, s.job)
	return nil
}

// setOverride makes v the override of an endpoint; nil is none.
func (o *observations) setOverride(e balancer.Endpoint, v *override) {
	switch {
	case v == nil:
		delete(o.overrides, e)
		delete(o.ofNames, e)
	case o.overrides == nil:
		o.overrides = map[balancer.Endpoint]*override{e: v}
	default:
		o.overrides[e] = v
	}
}

// endpoint returns that of a backend as configured or as it is shown.
func (s *Service) endpoint(address string) (e balancer.Endpoint, has bool) {
	shown := s.shown.Load()
	for i := range shown.rows {
		if e := shown.rows[i].spec.Endpoint; e.String() == address {
			return e, true
		}
	}
	for _, b := range shown.backends {
		if e := endpointOf(b.Addr); e.String() == address {
			return e, true
		}
	}
	return balancer.Endpoint{}, false
}

// value is what holds; of nil nothing.
func (v *override) value() override {
	if v == nil {
		return override{}
	}
	return *v
}

// with returns the override after o; nil if nothing is left of it.
func (v *override) with(o Override, now time.Duration) *override {
	is := v.value()
	ends := time.Duration(0)
	if o.Timeout > 0 {
		ends = now + o.Timeout
	}
	if o.Admin != nil {
		is.admin, is.adminEnds = *o.Admin, ends
	}
	if o.Weight != nil {
		is.hasWeight, is.weight, is.weightEnds = true, *o.Weight, ends
	}
	return is.orNil()
}

func (v override) orNil() *override {
	if v.admin == balancer.Ready {
		v.adminEnds = 0
	}
	if v == (override{}) {
		return nil
	}
	return &v
}

// at returns what is left of an override at a time; nil if nothing is.
func (v *override) at(now time.Duration) *override {
	is := *v
	if isOver(is.adminEnds, now) {
		is.admin, is.adminEnds = balancer.Ready, 0
	}
	if isOver(is.weightEnds, now) {
		is.hasWeight, is.weight, is.weightEnds = false, 0, 0
	}
	if is == *v {
		return v
	}
	return is.orNil()
}

func isOver(ends, now time.Duration) bool { return ends != 0 && ends <= now }

// next is when the first part of an override ends; 0: none does.
func (v *override) next() time.Duration {
	if v.adminEnds == 0 || v.weightEnds != 0 && v.weightEnds < v.adminEnds {
		return v.weightEnds
	}
	return v.adminEnds
}

// over returns the override of one address where below is that of its name. Both may be nil.
func (v *override) over(below *override) *override {
	switch {
	case v == nil:
		return below
	case below == nil:
		return v
	}
	is := *v
	if below.admin > is.admin {
		is.admin, is.adminEnds = below.admin, below.adminEnds
	}
	if !is.hasWeight {
		is.hasWeight, is.weight, is.weightEnds = below.hasWeight, below.weight, below.weightEnds
	}
	return &is
}

// String returns it as it is shown: drain, maint, weight=N, or two of them with a comma.
func (v *override) String() string {
	if v == nil {
		return ""
	}
	word := ""
	if v.admin != balancer.Ready {
		word = adminWord(v.admin)
	}
	if v.hasWeight && word != "" {
		word += ","
	}
	if v.hasWeight {
		word += weightWord(v.weight)
	}
	return word
}

func weightWord(weight int) string { return "weight=" + strconv.Itoa(weight) }

// maxAbsent bounds the overrides that a service keeps for addresses that its names do not have at present.
const maxAbsent = 1024

// expireOverrides ends overrides whose time has come, and returns when the next one ends; 0: none does.
func (o *observations) expireOverrides(now time.Duration) (next time.Duration) {
	for e, v := range o.overrides {
		is := v.at(now)
		if is != v {
			o.isNew = true
		}
		o.setOverride(e, is)
		if is == nil {
			continue
		}
		if at := is.next(); at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

// overridesOf returns the overrides of candidates. Those of backends that are no longer configured it takes back. An
// address that a name has had may come again.
func (o *observations) overridesOf(backends []config.Backend, candidates []candidate) map[balancer.Endpoint]*override {
	if len(o.overrides) == 0 {
		return nil
	}
	all, has := make(map[balancer.Endpoint]*override), make(map[balancer.Endpoint]bool)
	isNamed := false
	for _, b := range backends {
		e := endpointOf(b.Addr)
		has[e] = true
		delete(o.ofNames, e)
		if b.Addr.HostName() == "" {
			continue
		}
		isNamed = true
		if v := o.overrides[e]; v != nil {
			addresses, _ := resolve([]config.Backend{b}, o.names)
			for _, a := range addresses {
				if e := endpointOf(a.Addr); all[e] == nil { // of equal ones the first counts
					all[e] = v
				}
			}
		}
	}
	for _, c := range candidates {
		e := c.spec.Endpoint
		v := o.overrides[e]
		if v != nil && !has[e] {
			o.noteOfName(e)
		}
		has[e] = true
		if v = v.over(all[e]); v != nil {
			all[e] = v
		}
	}
	absent := 0
	for e := range o.overrides {
		if has[e] {
			continue
		}
		if absent++; !isNamed || !o.ofNames[e] || absent > maxAbsent {
			o.setOverride(e, nil)
		}
	}
	return all
}

// noteOfName notes that the override of an address is of one that a name has had.
func (o *observations) noteOfName(e balancer.Endpoint) {
	if o.ofNames == nil {
		o.ofNames = make(map[balancer.Endpoint]bool)
	}
	o.ofNames[e] = true
}

// logOverride logs what was set of a backend by hand, or was taken back, or has ended.
func (p *planner) logOverride(r *row) {
	before, now := r.logged.override, r.override
	was, is := before.value(), now.value()
	if was == is {
		return
	}
	change := Transition{Kind: KindOverride, From: before.String(), To: now.String()}
	ended := "override taken back"
	if was.admin != is.admin && isOver(was.adminEnds, p.now) || was.hasWeight && !is.hasWeight && isOver(was.weightEnds, p.now) {
		ended, change.Reason = "override ended", "its time is over"
	}
	tell := func(message string, ends time.Duration, fields ...zap.Field) {
		if ends > 0 {
			fields = append(fields, zap.String("for", config.Delay((ends-p.now).Round(time.Second))))
		}
		p.change(r, line{zap.InfoLevel, message, fields}, change)
		change = Transition{}
	}
	switch {
	case is.admin == was.admin && is.adminEnds == was.adminEnds:
	case is.admin == balancer.Ready:
		tell(ended, 0, zap.String("override", adminWord(was.admin)))
	case is.admin == balancer.Drain:
		tell("override: drain, no new clients", is.adminEnds)
	default:
		tell("override: maintenance", is.adminEnds)
	}
	switch {
	case is.hasWeight == was.hasWeight && is.weight == was.weight && is.weightEnds == was.weightEnds:
	case is.hasWeight:
		tell("override: weight", is.weightEnds, zap.Int("weight", is.weight))
	default:
		tell(ended, 0, zap.String("override", weightWord(was.weight)))
	}
}
