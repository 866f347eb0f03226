package dialect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/internal/api"
	"usher/internal/control"
	"usher/internal/iptables"
	"usher/internal/iptables/nat"
	"usher/internal/ipvsadm"
)

// statusKernel is that of iptables for what the kernel refuses.
const statusKernel = 4

// Tables returns the tables of iptables with their counters.
func (s *Server) Tables() api.Tables {
	now := s.now.Load()
	var text strings.Builder
	_ = iptables.Save(&text, now.plan.tables, iptables.SaveOptions{
		Counted: true, Counters: s.counters(now.plan, now.plan.tables), Now: time.Now().Format(time.ANSIC),
	})
	t := api.Tables{Text: text.String()}
	for _, o := range s.control.RuleOwners() {
		if o != control.IPTables {
			t.Others = append(t.Others, string(o))
		}
	}
	return t
}

// ChangeTables runs a command of iptables, or restores tables, as one change. An error is about the process as a whole;
// then nothing has changed.
func (s *Server) ChangeTables(ctx context.Context, c api.TableChange) (api.TableResult, error) {
	change := tableChange{TableChange: c}
	var err error
	if !c.Restore {
		var e error
		if change.command, e = iptables.ParseArgs(c.Args, resolve(ctx)); e != nil {
			change.fail(e)
			return change.result, nil
		}
	}
	if err := s.lock(ctx); err != nil {
		return api.TableResult{}, err
	}
	defer s.unlock()
	now := s.now.Load()
	change.next = now.plan.tables.Clone()
	change.do(ctx, iptables.Options{
		Counters: s.counters(now.plan, change.next), Check: iptables.CheckMeaning, CheckPolicy: iptables.CheckPolicyMeaning,
	})
	if change.result.Status != 0 && !c.Restore || c.Test || change.command != nil && change.command.IsReading() {
		return change.result, nil
	}
	err = s.applyTables(ctx, now, &change)
	return change.result, err
}

// resolve looks up the addresses of hosts in rules.
func resolve(ctx context.Context) iptables.Resolver {
	return func(host string) ([]netip.Addr, error) {
		ctx, cancel := context.WithTimeout(ctx, lookupMost)
		defer cancel()
		return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	}
}

// lookupMost bounds how long the addresses of a host may take.
const lookupMost = 5 * time.Second

// tableChange is a change that is under way.
type tableChange struct {
	api.TableChange
	command *iptables.Command // nil: tables are restored
	next    *iptables.Tables
	result  api.TableResult
}

// do runs the command on the next tables. Of a restore, the tables before the one at fault are changed.
func (c *tableChange) do(ctx context.Context, o iptables.Options) {
	var err error
	if c.command != nil {
		c.result.Stdout, err = c.command.Do(c.next, o)
		c.fail(err)
		return
	}
	options := iptables.RestoreOptions{
		Options: o, Counted: c.Counters, KeepAll: c.NoFlush, Test: c.Test, Verbose: c.Verbose, Table: c.Table, Resolver: resolve(ctx),
	}
	if !c.Strict {
		options.Refused = func(table string, line int, text string, err *iptables.Error) {
			c.say("line %d (%s) is left out: %s: %s", line, table, strings.TrimSpace(text), err)
		}
	}
	c.result.Stdout, err = iptables.Restore(c.next, c.Text, options)
	c.fail(err)
}

// fail takes over an error as the program prints it.
func (c *tableChange) fail(err error) {
	if e, is := errors.AsType[*iptables.Error](err); is {
		c.result.Status = e.Status
		c.result.Stderr += e.Text(c.program(), e.Line)
	} else if err != nil {
		c.result.Status = statusKernel
		c.say("%v", err)
	}
}

// say writes a line to stderr.
func (c *tableChange) say(format string, args ...any) {
	c.result.Stderr += c.program() + ": " + fmt.Sprintf(format, args...) + "\n"
}

func (c *tableChange) program() string {
	switch {
	case c.Program != "":
		return c.Program
	case c.Restore:
		return "iptables-restore"
	}
	return "iptables"
}

// applyTables makes the next tables run. A command that cannot be done has changed nothing; a restore says what is left
// out.
func (s *Server) applyTables(ctx context.Context, now *desired, c *tableChange) error {
	plan, err := planTables(c.next, now.plan)
	if err != nil {
		c.fail(err)
		return nil
	}
	isStrict := c.command != nil || c.Strict
	for _, r := range s.restOf(plan, now.plan, c) {
		text := fmt.Sprintf("-t %s -A %s%s: %s", r.Table, r.Chain, blank(r.Rule.String()), r.Reason)
		if isStrict && !r.IsServed {
			c.result.Status = statusKernel
			c.say("%s", text)
			return nil
		}
		c.say("%s", text)
	}
	if plan.marksDiffer(now.plan) {
		marked := s.plan.of(now.ipvs, plan.nat.Marks)
		if err := s.control.Replace(ctx, control.IPVSAdm, control.Part{Services: marked}); err != nil {
			return c.refuse(ctx, err)
		}
	}
	if err := s.replaceTables(ctx, plan, now.plan, c, isStrict); err != nil || c.result.Status != 0 && isStrict {
		if plan.marksDiffer(now.plan) {
			back := s.plan.of(now.ipvs, now.plan.nat.Marks)
			err = errors.Join(err, s.control.Replace(ctx, control.IPVSAdm, control.Part{Services: back}))
		}
		return err
	}
	after := *now
	after.plan = plan
	s.now.Store(&after)
	return nil
}

// blank puts a blank before words that have none.
func blank(words string) string { return " " + strings.TrimSpace(words) }

// restOf returns what a plan does not do: all of a restore, and of a command what it has added.
func (s *Server) restOf(plan, before *tablePlan, c *tableChange) []nat.Rest {
	if plan.nat == before.nat {
		return nil
	}
	if c.command == nil {
		return plan.nat.Rest
	}
	return plan.newRest(before)
}

// refuse takes over an error of the controller. It is returned if it is about the process as a whole.
func (c *tableChange) refuse(ctx context.Context, err error) error {
	if errors.Is(err, control.ErrShutDown) || ctx.Err() != nil {
		return err
	}
	c.result.Status = statusKernel
	c.say("%v", err)
	return nil
}

// replaceTables makes a plan the part of iptables. What cannot be had is refused: all of it, or else what is said.
func (s *Server) replaceTables(ctx context.Context, plan, before *tablePlan, c *tableChange, isStrict bool) error {
	part := func(p *tablePlan) control.Part { return control.Part{Services: p.nat.Services, Rules: p.rules} }
	if isStrict && len(before.refused) == 0 {
		if err := s.control.Replace(ctx, control.IPTables, part(plan)); err != nil {
			return c.refuse(ctx, err)
		}
		return nil
	}
	refusals, err := s.control.ReplaceSound(ctx, control.IPTables, part(plan))
	if err != nil {
		return c.refuse(ctx, err)
	}
	plan.refused = make(map[string]bool)
	isNew := false
	for _, r := range refusals {
		name := refusedName(&r)
		plan.refused[name] = true
		if !before.refused[name] || c.Restore {
			c.say("service %s is left out: %v", r.Service, r.Err)
			isNew = true
		}
	}
	if isNew && isStrict {
		c.result.Status = statusKernel
		_, err := s.control.ReplaceSound(ctx, control.IPTables, part(before))
		return err
	}
	guards := plan.guards
	plan.guards = nil
	if err := plan.planDoor(before); err != nil || slices.Equal(plan.guards, guards) {
		return err
	}
	_, err = s.control.ReplaceSound(ctx, control.IPTables, part(plan))
	return err
}

// refusedName names a service that was refused, or a listener of it.
func refusedName(r *control.Refusal) string {
	if r.Listener.Network == "" {
		return r.Service
	}
	return r.Service + " " + r.Listener.String()
}

// counters are the live counters of what runs, for tables that are these or made of them. A rule of the table nat counts
// the flows of its backends.
func (s *Server) counters(p *tablePlan, tables *iptables.Tables) iptables.Counters {
	counts := make(map[*iptables.Rule]control.RuleCount)
	byChain, policy := s.control.RuleCounts(control.IPTables)
	for i, c := range p.chains {
		all := byChain[c.Name]
		if i == 0 {
			all = all[min(len(p.guards), len(all)):]
		}
		for j, r := range c.Rules[:min(len(c.Rules), len(all))] {
			counts[r.Origin()] = all[j]
		}
	}
	s.countFlows(p, counts)
	return iptables.Counters{
		Rule: func(r *iptables.Rule) (packets, bytes uint64) {
			n := counts[r.Origin()]
			return n.Packets, n.Bytes
		},
		Policy: func(c *iptables.Chain) (packets, bytes uint64) {
			if c != tables.Table(filterTable).Chain("INPUT") {
				return 0, 0
			}
			return policy.Packets, policy.Bytes
		},
	}
}

// countFlows adds the flows of services to the rules that they are made of.
func (s *Server) countFlows(p *tablePlan, counts map[*iptables.Rule]control.RuleCount) {
	if len(p.nat.Services) == 0 {
		return
	}
	live := make(map[string]control.Live)
	for _, l := range s.control.Live() {
		if l.Owner == control.IPTables {
			live[l.Config.Name] = l
		}
	}
	for i, service := range p.nat.Services {
		l, has := live[service.Name]
		if !has {
			continue
		}
		flows := make(map[string]ipvsadm.Stats, len(l.Backends))
		for j := range l.Backends {
			b := l.Backends[j].Backend
			flows[b.String()] = s.figures.backend(&l, &l.Backends[j]).Stats
		}
		for j, path := range p.nat.Origins[i].Backends {
			f := flows[service.Backends[j].Addr.HostPort()]
			for _, r := range path {
				n := counts[r.Origin()]
				counts[r.Origin()] = control.RuleCount{Packets: n.Packets + f.Conns, Bytes: n.Bytes + f.InBytes + f.OutBytes}
			}
		}
	}
}
