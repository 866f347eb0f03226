package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
	"usher/proxy/flow"
)

// ServiceState is what a service has found out and was told, as plain data. [Service.State] takes it, and
// [Service.Restore] has another Service go on from it, maybe in another process. Times are ages, or what is left; one that
// users see is that of the wall clock.
type ServiceState struct {
	Backends     []BackendRecord
	Removed      []RemovedRecord  // whose flows have yet to end
	Names        []NameRecord     // that were looked up
	Overrides    []OverrideRecord // as they were set
	LeftOut      []string         // what was logged of others
	Availability uint8
	Status       uint8 // as last reported
	IsKnown      bool  // changes are reported
}

// BackendRecord is one backend of a ServiceState.
type BackendRecord struct {
	Endpoint     balancer.Endpoint
	Status       uint8
	Weight       int
	Since        int64 // when it got the status, in nanoseconds since 1970
	Why          string
	HasRefused   bool
	Check, Agent *health.Target // nil: none
	Found        uint8          // by checks, as a balancer.Status
	Error        string         // of the check
	Report       health.AgentReport
	Ejection     *health.Ejection // nil: it was never ejected
	Refusal      RefusalRecord
	Terminations []TerminationRecord
}

// RefusalRecord is what is known of a backend at which nobody may listen.
type RefusalRecord struct {
	Doubted, Logged, HasLogged bool
	Age                        time.Duration // of the last line
}

// TerminationRecord is an end of flows that was scheduled.
type TerminationRecord struct {
	Cause uint8
	Done  bool
	Left  time.Duration
	How   uint8 // a proxy.Cut
}

// RemovedRecord is a backend that has left the pool.
type RemovedRecord struct {
	Endpoint     balancer.Endpoint
	Terminations []TerminationRecord
}

// NameRecord is the last answer for a name.
type NameRecord struct {
	Host      string
	Records   []discovery.Record
	IsFailing bool // the last look-up has failed, and that was logged
}

// OverrideRecord is an override by hand. What is left is 0 for one that is taken back by hand.
type OverrideRecord struct {
	Endpoint              balancer.Endpoint
	Admin                 uint8
	HasWeight             bool
	Weight                int
	AdminLeft, WeightLeft time.Duration
}

// Bounds of a state. Ages and what is left are far below the range of a Duration.
const (
	maxAge  = 100 * 365 * 24 * time.Hour
	maxText = 1024 // bytes
)

// State returns the state of the service as of its last run, for which it waits. What was observed since is not in it:
// checks find it again.
func (s *Service) State() ServiceState {
	s.running.Lock()
	defer s.running.Unlock()
	now := s.now()
	st := ServiceState{
		Availability: uint8(s.state.availability), Status: uint8(s.state.reported), IsKnown: s.state.isKnown,
		LeftOut: slices.Sorted(maps.Keys(s.state.leftOut)), Names: s.owner.names.state(s.seen.names),
	}
	for i := range s.state.rows {
		st.Backends = append(st.Backends, s.record(&s.state.rows[i], now))
	}
	for _, r := range s.state.removed {
		st.Removed = append(st.Removed, RemovedRecord{r.backend.Endpoint(), terminationRecords(r.terminations, now)})
	}
	for e, v := range s.seen.overrides {
		st.Overrides = append(st.Overrides, OverrideRecord{
			Endpoint: e, Admin: uint8(v.admin), HasWeight: v.hasWeight, Weight: v.weight,
			AdminLeft: left(v.adminEnds, now), WeightLeft: left(v.weightEnds, now),
		})
	}
	return st
}

// left is the time until a moment, at least a nanosecond; 0 of none.
func left(at, now time.Duration) time.Duration {
	if at == 0 {
		return 0
	}
	return max(at-now, 1)
}

func (s *Service) record(r *row, now time.Duration) BackendRecord {
	rec := BackendRecord{
		Endpoint: r.spec.Endpoint, Status: uint8(r.spec.Status()), Weight: r.spec.Weight, Since: r.since.UnixNano(), Why: r.why,
		HasRefused: r.hasRefused, Check: r.check, Agent: r.agent, Terminations: terminationRecords(r.schedules(), now),
		Refusal: RefusalRecord{r.refusal.doubted, r.refusal.logged, r.refusal.hasLogged, now - r.refusal.at},
	}
	if r.check != nil {
		found := s.seen.checks[*r.check]
		rec.Found = uint8(found.status)
		if found.err != nil {
			rec.Error = found.err.Error()
		}
	}
	if r.agent != nil {
		rec.Report = s.seen.agents[*r.agent]
	}
	if d := s.outliers.detector.Load(); d != nil {
		if e, has := d.Ejection(r.backend, now); has {
			rec.Ejection = &e
		}
	}
	return rec
}

func terminationRecords(all [causes]schedule, now time.Duration) (records []TerminationRecord) {
	for cause, s := range all {
		if s.set {
			records = append(records, TerminationRecord{uint8(cause), s.done, left(max(s.due, 1), now), uint8(s.how)})
		}
	}
	return records
}

// Check returns an error if no service can have such a state.
func (st *ServiceState) Check() error {
	if st.Availability > uint8(allDown) || st.Status > uint8(ServiceDown) {
		return fmt.Errorf("status %d, availability %d", st.Status, st.Availability)
	}
	has := make(map[balancer.Endpoint]bool, len(st.Backends))
	for i := range st.Backends {
		b := &st.Backends[i]
		if has[b.Endpoint] {
			return fmt.Errorf("backend %v is there twice", b.Endpoint)
		}
		has[b.Endpoint] = true
		if err := b.check(); err != nil {
			return fmt.Errorf("backend %v: %w", b.Endpoint, err)
		}
	}
	for _, r := range st.Removed {
		if err := checkTerminations(r.Terminations); err != nil {
			return fmt.Errorf("removed backend %v: %w", r.Endpoint, err)
		}
	}
	for _, n := range st.Names {
		for _, r := range n.Records {
			if !r.Addr.IsValid() || r.Addr.Is4In6() {
				return fmt.Errorf("name %q has the address %v", n.Host, r.Addr)
			}
		}
	}
	for _, o := range st.Overrides {
		if o.Admin > uint8(balancer.Maint) || o.Weight < 0 || o.Weight > config.MaxWeight || !isAge(o.AdminLeft) || !isAge(o.WeightLeft) {
			return fmt.Errorf("the override of %v is none", o.Endpoint)
		}
	}
	return nil
}

func (b *BackendRecord) check() error {
	r := &b.Report
	switch {
	case b.Status > uint8(balancer.InMaint) || b.Found > uint8(balancer.Down):
		return fmt.Errorf("status %d, found %d", b.Status, b.Found)
	case b.Weight < 0 || b.Weight > config.MaxWeight:
		return fmt.Errorf("weight %d", b.Weight)
	case b.Refusal.Age < 0 || b.Refusal.Age > maxAge:
		return errors.New("its times are out of range")
	case max(len(b.Why), len(b.Error), len(r.Reason), len(r.UnknownWord)) > maxText:
		return errors.New("its texts are too long")
	case r.Weight.Value < 0 || r.Weight.Value > 1000 || r.Max.Value < 0 || r.Admin > health.AdminMaint || r.Oper > health.OperDown:
		return errors.New("its agent cannot have said that")
	case !isTarget(b.Check) || !isTarget(b.Agent):
		return errors.New("its checks have no address")
	}
	return checkTerminations(b.Terminations)
}

func isTarget(t *health.Target) bool {
	if t == nil || t.Network == "unix" {
		return true
	}
	_, err := netip.ParseAddrPort(t.Address)
	return err == nil
}

func isAge(d time.Duration) bool { return d >= 0 && d <= maxAge }

func checkTerminations(all []TerminationRecord) error {
	for _, t := range all {
		if t.Cause >= uint8(causes) || !isAge(t.Left) || t.How != uint8(flow.Fin) && t.How != uint8(flow.Reset) {
			return fmt.Errorf("no flows end for cause %d by %d in %s", t.Cause, t.How, t.Left)
		}
	}
	return nil
}

// Restore has a service that was not given to Set yet go on from a state. Its pool has its backends again; removed are
// those that flows still hold. Nothing is logged or reported for it, and no first results are waited for. After an error,
// which is that of st.Check, nothing has changed.
func (s *Service) Restore(st *ServiceState, removed []*balancer.Backend) error {
	if err := st.Check(); err != nil {
		return fmt.Errorf("service %s: %w", s.config.Name, err)
	}
	now := s.now()
	for _, n := range st.Names {
		s.seen.names[n.Host] = n.Records
	}
	s.owner.names.restore(st.Names)
	for _, o := range st.Overrides {
		s.seen.setOverride(o.Endpoint, o.override(now).orNil())
		if o.Endpoint.Addr.IsValid() {
			s.seen.noteOfName(o.Endpoint) // unless it is configured
		}
	}
	pool := make(map[balancer.Endpoint]*balancer.Backend)
	for _, b := range s.pool.Backends() {
		pool[b.Endpoint()] = b
	}
	s.state = state{
		availability: availability(st.Availability), status: ServiceStatus(st.Status), reported: ServiceStatus(st.Status),
		isKnown: st.IsKnown, leftOut: make(map[string]bool, len(st.LeftOut)),
	}
	for _, key := range st.LeftOut {
		s.state.leftOut[key] = true
	}
	for i := range st.Backends {
		if b := pool[st.Backends[i].Endpoint]; b != nil {
			s.state.rows = append(s.state.rows, s.restoreRow(&st.Backends[i], b, now))
		}
	}
	s.restoreLoggedOverrides()
	gone := make(map[balancer.Endpoint]*balancer.Backend, len(removed))
	for _, b := range removed {
		gone[b.Endpoint()] = b
	}
	for _, r := range st.Removed {
		if b := gone[r.Endpoint]; b != nil {
			s.state.removed = append(s.state.removed, removedBackend{b, schedulesOf(r.Terminations, now)})
		}
	}
	s.restoreEjections(st, pool, now)
	s.isRestored, s.retarget = true, true
	s.shown.Store(&snapshot{s.state.rows, s.config.Backends, s.state.status})
	return nil
}

func (o *OverrideRecord) override(now time.Duration) override {
	ends := func(left time.Duration) time.Duration {
		if left == 0 {
			return 0
		}
		return now + left
	}
	return override{balancer.AdminState(o.Admin), o.HasWeight, o.Weight, ends(o.AdminLeft), ends(o.WeightLeft)}
}

func (s *Service) restoreRow(rec *BackendRecord, b *balancer.Backend, now time.Duration) row {
	r := row{
		backend: b, spec: balancer.Spec{Endpoint: rec.Endpoint, Weight: rec.Weight}, check: rec.Check, agent: rec.Agent,
		hasRefused: rec.HasRefused, since: time.Unix(0, rec.Since), why: rec.Why,
		refusal: refusal{rec.Refusal.Doubted, rec.Refusal.Logged, rec.Refusal.HasLogged, now - rec.Refusal.Age},
	}
	r.setStatus(rec)
	if all := schedulesOf(rec.Terminations, now); all != ([causes]schedule{}) {
		r.terminations = &all
	}
	r.logged = logged{
		isKnown: true, status: balancer.Status(rec.Status), check: balancer.Status(rec.Found), weight: rec.Weight,
		ejected: rec.Ejection != nil && rec.Ejection.IsEjected,
	}
	if rec.Check != nil {
		found := checkResult{status: balancer.Status(rec.Found)}
		if rec.Error != "" {
			found.err = errors.New(rec.Error)
		}
		s.seen.checks[*rec.Check] = found
	}
	if rec.Agent != nil {
		s.seen.agents[*rec.Agent] = rec.Report
		if rec.Report != (health.AgentReport{}) {
			r.logged.report = &rec.Report
		}
	}
	return r
}

// setStatus makes a row one of the status, of which a plan and the outlier detection look at nothing else.
func (r *row) setStatus(rec *BackendRecord) {
	switch status := balancer.Status(rec.Status); {
	case status == balancer.Draining:
		r.spec.Admin = balancer.Drain
	case status == balancer.InMaint:
		r.spec.Admin = balancer.Maint
	case rec.Ejection != nil && rec.Ejection.IsEjected:
		r.spec.Check, r.spec.Ejected = balancer.Up, true
	default:
		r.spec.Check = status
	}
}

// restoreLoggedOverrides has overrides count as logged.
func (s *Service) restoreLoggedOverrides() {
	backends, _ := resolve(s.config.Backends, s.seen.names)
	candidates, _ := newCandidates(s.config, backends, nil)
	all := s.seen.overridesOf(s.config.Backends, candidates)
	for i := range s.state.rows {
		r := &s.state.rows[i]
		r.override = all[r.spec.Endpoint]
		r.logged.override = r.override
	}
}

func schedulesOf(records []TerminationRecord, now time.Duration) (all [causes]schedule) {
	for _, t := range records {
		all[t.Cause] = schedule{set: true, done: t.Done, due: now + t.Left, how: proxy.Cut(t.How)}
	}
	return all
}

// restoreEjections has the outlier detection know what it has done.
func (s *Service) restoreEjections(st *ServiceState, pool map[balancer.Endpoint]*balancer.Backend, now time.Duration) {
	d := s.outliers.detector.Load()
	if d == nil {
		return
	}
	s.outliers.members = make([]*balancer.Backend, len(s.state.rows))
	doubted := make(map[*balancer.Backend]bool)
	for i := range s.state.rows {
		r := &s.state.rows[i]
		s.outliers.members[i] = r.backend
		if r.refusal.doubted {
			doubted[r.backend] = true
		}
	}
	d.Set(s.outliers.members, now)
	for i := range st.Backends {
		if rec := &st.Backends[i]; rec.Ejection != nil && pool[rec.Endpoint] != nil {
			d.Restore(pool[rec.Endpoint], *rec.Ejection, now)
		}
	}
	s.outliers.doubted.Store(&doubted)
}
