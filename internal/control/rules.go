package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/iptables"
	"usher/proxy/rules"
)

// ruleset is the rules of all owners, joined in their order and compiled. It does not change.
type ruleset struct {
	parts  map[Owner]*config.Rules // of the owners that have some
	set    *rules.Set              // nil: they change nothing
	owners map[*rules.Rule]Owner
	chains map[string]Owner // of chains; of INPUT the owner of its policy
}

// joinRules returns the rules of all owners with another part of one, ready to judge. Rules of before keep their counters
// and states. The error is a *RuleError, a *RuleConflictError, or that of the data path.
func (c *Controller) joinRules(before *ruleset, owner Owner, part *config.Rules) (*ruleset, error) {
	if before.parts[owner].Equal(part) {
		return before, nil
	}
	parts := make(map[Owner]*config.Rules)
	maps.Copy(parts, before.parts)
	parts[owner] = part
	r, err := compileRules(parts, before.set, c.ruleOptions(nil), c.file)
	if err != nil {
		return nil, err
	}
	return r, c.server.CheckRules(r.set)
}

// ruleOptions are those of rules with the counters and states of a saved state, which may be nil.
func (c *Controller) ruleOptions(saved *rules.State) rules.Options {
	return rules.Options{Seed: c.seed, Log: c.ruleLog.add, State: saved}
}

// compileRules joins and compiles the rules of owners. File is the path of the config file, for messages.
func compileRules(parts map[Owner]*config.Rules, before *rules.Set, o rules.Options, file string) (*ruleset, error) {
	r := &ruleset{parts: parts, owners: make(map[*rules.Rule]Owner), chains: make(map[string]Owner)}
	var all []config.RulePart
	for _, owner := range slices.SortedFunc(maps.Keys(parts), Owner.compare) {
		if parts[owner] != nil {
			r.note(owner, parts[owner])
			all = append(all, config.RulePart{Owner: owner.place(file), Rules: parts[owner]})
		}
	}
	list, err := config.JoinRules(all...)
	if err != nil {
		return nil, &RuleConflictError{err}
	}
	if list == nil {
		return r, nil
	}
	r.set, err = rules.Compile(list, before, o)
	if e, ok := errors.AsType[*rules.ChainError](err); ok {
		return nil, r.explain(list, e, file)
	}
	return r, err
}

// explain names the rule and its owner in an error of compiling a list.
func (r *ruleset) explain(list *rules.List, e *rules.ChainError, file string) error {
	for _, chain := range list.Chains {
		if chain.Name == e.Chain && e.Rule >= 0 && e.Rule < len(chain.Rules) {
			rule := chain.Rules[e.Rule]
			return &RuleError{Rule: iptables.Format(chain.Name, rule), Owner: r.owners[rule], Err: e.Err, file: file}
		}
	}
	return e
}

// JoinRules checks the rules of owners and returns them as those of one; nil if they change nothing. File is the path of
// the config file. The error is a *RuleError or a *RuleConflictError.
func JoinRules(parts map[Owner]*config.Rules, file string) (*config.Rules, error) {
	r, err := compileRules(parts, nil, rules.Options{}, file)
	if err != nil {
		return nil, err
	}
	return r.plan(), nil
}

// plan returns the rules as one owner would give them; nil: there are none.
func (r *ruleset) plan() *config.Rules {
	if r.set == nil {
		return nil
	}
	return config.RulesOf(r.set.List())
}

// summary says how many rules there are, and the policy.
func (r *ruleset) summary() (n int, policy string) {
	if r.set == nil {
		return 0, "ACCEPT"
	}
	for _, chain := range r.set.List().Chains {
		n += len(chain.Rules)
	}
	return n, iptables.TargetName(&rules.Rule{Target: r.set.List().Chains[0].Policy})
}

// fields are what the log says of all rules.
func (r *ruleset) fields() []zap.Field {
	n, policy := r.summary()
	return []zap.Field{zap.Int("rules", n), zap.String("policy", policy)}
}

// logRules logs and publishes a change of rules.
func (c *Controller) logRules(d *draft) {
	if d.rules == d.rulesBefore {
		return
	}
	n, policy := d.rules.summary()
	fields := append(d.rules.fields(), zap.String("owner", string(d.owner)))
	c.log.Info("rules changed", append(fields, changedRules(d.rulesBefore.parts[d.owner], d.rules.parts[d.owner])...)...)
	c.events.publish(api.Event{
		Time: time.Now(), Event: "rules", To: fmt.Sprintf("%d rules, policy %s", n, policy), Reason: "owner " + string(d.owner),
	})
}

// changedRules says which rules came and which went.
func changedRules(before, after *config.Rules) []zap.Field {
	was, is := commands(before), commands(after)
	added, removed := missing(is, was), missing(was, is)
	var fields []zap.Field
	if len(added) > 0 {
		fields = append(fields, zap.Strings("added", added))
	}
	if len(removed) > 0 {
		fields = append(fields, zap.Strings("removed", removed))
	}
	if fields == nil {
		fields = append(fields, zap.String("changed", "in another order"))
	}
	return fields
}

// commands are the lines of a part, with its policy.
func commands(part *config.Rules) []string {
	switch {
	case part == nil:
		return nil
	case part.Policy == "":
		return part.Lines
	}
	return append([]string{"-P " + rules.Input + " " + part.Policy}, part.Lines...)
}

// note keeps whose the rules and chains of a part are.
func (r *ruleset) note(owner Owner, part *config.Rules) {
	for _, chain := range part.List.Chains {
		if chain.Name != rules.Input || part.Policy != "" {
			r.chains[chain.Name] = owner
		}
		for _, rule := range chain.Rules {
			r.owners[rule] = owner
		}
	}
}
