package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/figures"
	"usher/internal/iptables"
	"usher/proxy/rules"
)

// rules lists chains as iptables does, or as the API's object.
func (p *program) rules(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	return out.repeat(c.Context, func(w io.Writer) error {
		all, err := usher.Rules(c.Context)
		if err != nil {
			return err
		}
		if name := c.Args().First(); name != "" {
			if all, err = oneChain(all, name); err != nil {
				return err
			}
		}
		if out.isObject() {
			return out.object(w, all)
		}
		return printChains(w, all, iptables.ListingOptions{Verbose: true, LineNumbers: true, Exact: out.wide(), Numeric: true, ProtocolNames: true})
	})
}

// oneChain returns a chain alone. The error of one that is not there is iptables' own.
func oneChain(all api.Rules, name string) (api.Rules, error) {
	var have []string
	for _, chain := range all.Chains {
		if have = append(have, chain.Name); chain.Name == name {
			return api.Rules{Chains: []api.Chain{chain}}, nil
		}
	}
	return all, fmt.Errorf("%s: No chain/target/match by that name.%s", name, config.OrHave(name, have))
}

// printChains writes chains with a blank line between them.
func printChains(w io.Writer, all api.Rules, o iptables.ListingOptions) error {
	jumps := make(map[string]int)
	for _, chain := range all.Chains {
		for _, r := range chain.Rules {
			jumps[r.Target]++
		}
	}
	for i, chain := range all.Chains {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		listing, err := listingOf(&chain)
		if err != nil {
			return err
		}
		listing.References = jumps[chain.Name]
		if err := listing.Write(w, o); err != nil {
			return err
		}
	}
	return nil
}

// listingOf returns a chain as iptables lists it. Packets there are flows and datagrams here.
func listingOf(chain *api.Chain) (*iptables.Chain, error) {
	l := &iptables.Chain{
		Name: chain.Name, IsBuiltin: chain.Name == rules.Input, Policy: cmp.Or(chain.Policy, "ACCEPT"),
		Packets: chain.Flows + chain.Datagrams, Bytes: chain.Bytes, Rules: make([]*iptables.Rule, len(chain.Rules)),
	}
	for i, r := range chain.Rules {
		cmd, err := iptables.ParseRule(r.Rule)
		if err == nil && len(cmd.Rules) != 1 {
			err = fmt.Errorf("it is %d rules", len(cmd.Rules))
		}
		if err != nil {
			return nil, fmt.Errorf("the running usher has a rule that this one cannot read: %s: %w", r.Rule, err)
		}
		l.Rules[i] = cmd.Rules[0]
		l.Rules[i].Packets, l.Rules[i].Bytes = r.Flows+r.Datagrams, r.Bytes
	}
	return l, nil
}

// setRules makes its words all rules of the API.
func (p *program) setRules(c *cli.Context) error {
	lines, policy := c.Args().Slice(), c.String("policy")
	if len(lines) == 0 && policy == "" {
		return usageError{errors.New("set rules lacks its rules: usher set rules [--policy ACCEPT|DROP] RULE ... (usher rm rules removes all)")}
	}
	if _, err := config.ParseRules(policy, lines); err != nil {
		return usageError{ruleError(err, lines)}
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.SetRules(c.Context, api.RuleLines{Policy: policy, Rules: lines}); err != nil {
		return err
	}
	return p.say("set %s", figures.Count(len(lines), "rule"))
}

// ruleError is the error of a line without its index: a reader sees the line.
func ruleError(err error, lines []string) error {
	if e, ok := errors.AsType[*iptables.Error](err); ok {
		return fmt.Errorf("%s: %w", lines[e.Line], e)
	}
	return err
}

// addRule adds rules behind those of the API. They may jump to chains that only the running usher knows.
func (p *program) addRule(c *cli.Context) error {
	lines := c.Args().Slice()
	for _, line := range lines {
		if _, err := iptables.ParseRule(line); err != nil {
			return usageError{ruleError(err, []string{line})}
		}
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.AddRules(c.Context, api.RuleLines{Rules: lines}); err != nil {
		return err
	}
	return p.say("added %s", strings.Join(lines, ", "))
}

// removeRules removes all rules of the API.
func (p *program) removeRules(c *cli.Context) error {
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.RemoveRules(c.Context); err != nil {
		return err
	}
	return p.say("removed the rules of the API")
}
