package dialect

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
)

// statusRefused is that of ipvsadm for a command that the kernel refuses.
const statusRefused = 255

// ChangeIPVS runs lines of ipvsadm one after the other, as one change, and goes on behind one that is refused. It returns
// the refusals in the order of the lines. An error is about the process as a whole; then nothing has changed.
func (s *Server) ChangeIPVS(ctx context.Context, lines []string) ([]api.LineError, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	before := s.now.Load()
	b := &batch{server: s, before: before.ipvs, state: before.ipvs.Clone(), line: make(map[ipvsadm.Key]int)}
	for i, line := range lines {
		b.run(i, line)
	}
	if len(b.line) > 0 || b.changesAll {
		if err := s.applyIPVS(ctx, b); err != nil {
			return nil, err
		}
	}
	after := *before
	after.ipvs = b.state
	after.zeros = s.zero(before.zeros, b)
	s.now.Store(&after)
	sort.SliceStable(b.errors, func(i, j int) bool { return b.errors[i].Line < b.errors[j].Line })
	return b.errors, nil
}

// batch is lines of ipvsadm that run as one change.
type batch struct {
	server     *Server
	before     *ipvsadm.State
	state      *ipvsadm.State
	line       map[ipvsadm.Key]int // by which a service was added, or else the last one that is about it
	last       int                 // the last line that has changed something
	changesAll bool                // services were flushed, or timeouts changed
	flushed    bool
	zeroed     []ipvsadm.Key
	zeroesAll  bool
	foreign    map[ipvsadm.Key]owned // services of other owners; nil: nobody has asked yet
	errors     []api.LineError
}

// owned is a service of another owner.
type owned struct {
	name  string
	owner control.Owner
}

// run runs a line on the state.
func (b *batch) run(i int, line string) {
	cmd, err := ipvsadm.Parser{IsRestoring: true}.Parse(strings.Fields(line))
	if err == nil {
		err = b.do(cmd)
	}
	if err != nil {
		b.refuse(i, err)
		return
	}
	b.note(i, cmd)
}

// do runs a command on the state. What usher cannot do, and what belongs to another owner, is refused with the reason.
func (b *batch) do(cmd *ipvsadm.Command) error {
	if e := cmd.Unsupported(); e != nil {
		return e
	}
	if !cmd.IsChange() {
		return ipvsadm.Refuse("this command changes nothing, and only changes can be sent")
	}
	if cmd.Op == ipvsadm.Zero && cmd.HasService && b.others()[cmd.Service.Key].name != "" {
		return nil // counters are not configuration
	}
	err := cmd.Do(b.state)
	e, is := errors.AsType[*ipvsadm.Error](err)
	if !is || e.Errno != ipvsadm.ESRCH {
		return err
	}
	if o, has := b.others()[cmd.Service.Key]; has {
		return b.server.control.OwnedBy(o.name, o.owner)
	}
	return err
}

// note keeps which line is about a service.
func (b *batch) note(i int, cmd *ipvsadm.Command) {
	key := cmd.Service.Key
	switch cmd.Op {
	case ipvsadm.Zero:
		b.zeroesAll = b.zeroesAll || !cmd.HasService
		b.zeroed = append(b.zeroed, key)
		return
	case ipvsadm.Flush:
		b.changesAll, b.flushed = true, true
	case ipvsadm.SetTimeouts:
		b.changesAll = true
	case ipvsadm.Delete:
		b.line[key] = i
		b.zeroed = append(b.zeroed, key) // one of the same address that follows begins anew
	case ipvsadm.AddServer, ipvsadm.EditServer, ipvsadm.DeleteServer:
		if _, has := b.line[key]; !has || b.before.Find(key) != nil {
			b.line[key] = i
		}
	default:
		b.line[key] = i
	}
	b.last = i
}

// refuse notes that a line has changed nothing.
func (b *batch) refuse(line int, err error) {
	refusal := api.LineError{Line: line, Status: statusRefused, Text: err.Error()}
	if e, is := errors.AsType[*ipvsadm.Error](err); is {
		refusal.Status, refusal.Errno = e.Status, int(e.Errno)
	}
	b.errors = append(b.errors, refusal)
}

// others returns the services of other owners.
func (b *batch) others() map[ipvsadm.Key]owned {
	if b.foreign == nil {
		b.foreign = make(map[ipvsadm.Key]owned)
		for _, live := range b.server.control.Live() {
			if live.Owner == control.IPVSAdm {
				continue
			}
			for _, l := range live.Config.Listeners {
				if key, is := keyOf(l); is {
					b.foreign[key] = owned{live.Config.Name, live.Owner}
				}
			}
		}
	}
	return b.foreign
}

// applyIPVS makes the state of a batch run. Services that cannot be had are as they were before the batch, and the lines
// about them are refused.
func (s *Server) applyIPVS(ctx context.Context, b *batch) error {
	marks := s.now.Load().plan.nat.Marks
	services := s.plan.of(b.state, marks)
	opened := b.opened(services)
	for back := b.before; ; back = ipvsadm.NewState() {
		refusals, err := s.replaceIPVS(ctx, opened, len(b.line) <= 1 && !b.changesAll)
		if err != nil {
			return err
		}
		if len(refusals) == 0 {
			break
		}
		if !b.takeBack(refusals, back) {
			return refusals[0].Err // of no service of the batch: to go on would not end
		}
		services = s.plan.of(b.state, marks)
		opened = b.opened(services)
	}
	if slices.Equal(opened, services) {
		return nil
	}
	_, err := s.replaceIPVS(ctx, services, false)
	return err
}

// replaceIPVS makes services those of ipvsadm, and returns which ones cannot be had. Where one service changes and cannot
// be had, nothing has changed.
func (s *Server) replaceIPVS(ctx context.Context, services []*config.Service, isOne bool) ([]control.Refusal, error) {
	part := control.Part{Services: services}
	if !isOne {
		return s.control.ReplaceSound(ctx, control.IPVSAdm, part)
	}
	err := s.control.Replace(ctx, control.IPVSAdm, part)
	if err == nil || errors.Is(err, control.ErrShutDown) || ctx.Err() != nil {
		return nil, err
	}
	return []control.Refusal{{Err: err}}, nil
}

// opened returns services whose listeners are tried: those that are new and have no servers are open, where they would be
// closed until there is one.
func (b *batch) opened(services []*config.Service) []*config.Service {
	closed := make(map[string]bool)
	for key := range b.line {
		if v := b.state.Find(key); v != nil && len(v.Destinations) == 0 && b.before.Find(key) == nil {
			for _, network := range networksOf(&key) {
				closed[NameOf(&key, network)] = true
			}
		}
	}
	if len(closed) == 0 {
		return services
	}
	all := slices.Clone(services)
	for i, c := range all {
		if closed[c.Name] {
			open := *c
			open.OnEmpty = config.EmptyRefuse
			all[i] = &open
		}
	}
	return all
}

// takeBack makes services that were refused what they are in another state. It returns false if there were none.
func (b *batch) takeBack(refusals []control.Refusal, state *ipvsadm.State) bool {
	keys := make(map[string]ipvsadm.Key)
	for _, v := range b.state.Services() {
		for _, network := range networksOf(&v.Key) {
			keys[NameOf(&v.Key, network)] = v.Key
		}
	}
	isBack := make(map[ipvsadm.Key]bool)
	for _, r := range refusals {
		key, has := keys[r.Service]
		if r.Service == "" {
			for key = range b.line { // it is the only one
				has = true
			}
		}
		if !has || isBack[key] {
			continue
		}
		isBack[key] = true
		line, has := b.line[key]
		if !has {
			line = b.last
		}
		b.refuse(line, r.Err)
		_ = b.state.Delete(key)
		if old := state.Find(key); old != nil {
			_ = b.state.Add(*old) // it was right before
			for _, d := range slices.Backward(old.Destinations) {
				_ = b.state.AddDestination(key, d)
			}
		}
	}
	return len(isBack) > 0
}
