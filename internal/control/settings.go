package control

import (
	"slices"
	"strconv"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
	"usher/proxy"
)

// setting is one value in effect, as the log has it.
type setting struct {
	field     zap.Field
	isDefault bool
}

// fieldsOf returns the fields of settings; of those that are not as by default alone, if changed.
func fieldsOf(all []setting, changed bool) []zap.Field {
	fields := make([]zap.Field, 0, len(all))
	for _, s := range all {
		if !changed || !s.isDefault {
			fields = append(fields, s.field)
		}
	}
	return fields
}

// serviceSettings returns the options of a service in effect. Those that most services leave out
// are there if they are set.
func serviceSettings(s *service) []setting {
	c, all := s.config, make([]setting, 0, 32)
	defaults, network := c.Defaults(), c.Network()
	effective := effectiveTexts(s)
	for _, o := range inLogOrder(config.ServiceOptions()) {
		if o.Network != "" && o.Network != network {
			continue
		}
		text := o.Text(c)
		one := setting{isDefault: text == o.Text(defaults)}
		if one.isDefault && isLeftOut(c, o) {
			continue
		}
		if better, has := effective[o.Name]; has {
			text = better
		}
		if one.field = zap.String(string(o.Name), text); o.Switch {
			one.field = zap.Bool(string(o.Name), text == "true")
		}
		if o.Name == "reserve" {
			reserve, most := s.running.Shares()
			one.field = zap.Int64("reserve", reserve)
			all = append(all, one, setting{zap.Int64("most-flows", most), true})
			continue
		}
		all = append(all, one)
	}
	return all
}

// inLogOrder returns options in the order of the log: what clients notice comes first.
func inLogOrder(options []config.Option[config.Service]) []*config.Option[config.Service] {
	first := []config.Field{
		"scheduler", "health", "fail", "reserve", "connect-timeout", "idle-timeout", "reclaim-idle", "half-close-timeout",
		"wait", "queue", "abort-on-close", "udp-idle-timeout", "udp-unreplied-timeout", "udp-replies", "ops", "max-flows", "max-client-flows",
		"hash-key", "hash-balance", "persist", "panic", "eject", "slow-start", "max-age", "agent", "on-down", "on-drain", "on-remove",
		"source", "on-empty",
	}
	ordered := make([]*config.Option[config.Service], len(first), len(options))
	for i := range options {
		if at := slices.Index(first, options[i].Name); at >= 0 {
			ordered[at] = &options[i]
		} else {
			ordered = append(ordered, &options[i])
		}
	}
	return ordered
}

// isLeftOut reports whether an option has no effect on a service that does not set it.
func isLeftOut(c *config.Service, o *config.Option[config.Service]) bool {
	a, err := balancer.Lookup(c.Scheduler.Name)
	hashes := err == nil && !slices.Contains(c.Scheduler.Flags, balancer.IPVS) // the kernel's own key has no bound
	switch o.Name {
	case "hash-key":
		return !hashes || !a.Hashes
	case "hash-balance":
		return !hashes || !a.Bounds
	case "source", "on-empty", "log-access":
		return true
	}
	return slices.Contains([]string{"access", "proxy", "sni"}, o.Topic)
}

// effectiveTexts are what options come to that say it in another way, or depend on others.
func effectiveTexts(s *service) map[config.Field]string {
	c := s.config
	texts := map[config.Field]string{"health": checked(c), "agent": asked(c)}
	if c.Network() == config.UDP {
		texts["max-client-flows"] = clientShare(s.running)
		for name, n := range map[config.Field]int{"udp-replies": c.UDP.Replies, "max-flows": c.UDP.MaxFlows} {
			if n == 0 {
				texts[name] = "off"
			}
		}
	}
	return texts
}

func clientShare(s *proxy.Service) string {
	if n := s.ClientShare(); n > 0 {
		return strconv.Itoa(int(n))
	}
	return "off"
}

// processSettings returns the options of the process that the log begins with.
func processSettings(p *config.Process) []setting {
	defaults := config.DefaultProcess()
	var all []setting
	for _, o := range config.ProcessOptions() {
		if text := o.Text(p); !slices.Contains(saidElsewhere, o.Name) {
			all = append(all, setting{zap.String(string(o.Name), text), text == o.Text(&defaults)})
		}
	}
	return all
}

// drainSetting is the drain timeout in effect.
func (c *Controller) drainSetting(p *config.Process) setting {
	defaults := config.DefaultProcess()
	return setting{zap.String("drain-timeout", config.Delay(p.DrainTimeout)), p.DrainTimeout == defaults.Drain(c.isBrief)}
}

// saidElsewhere are options whose effect other words of the start have, or the log itself shows.
var saidElsewhere = []config.Field{
	"max-conns", "workers", "engine", "name", "control", "admin", "log-format", "drain-timeout",
}
