package config

import (
	"fmt"
	"slices"
	"strconv"
)

// ServiceOptions lists the options of services, [NAME=]VALUE on the command line.
func ServiceOptions() []string {
	return slices.Concat([]string{
		"scheduler", "hash-key", "hash-balance", "persist", "health", "fail", "panic", "eject", "slow-start", "max-age",
		"on-down", "on-drain", "on-remove", "agent",
	}, tcpOptions(), udpOptions())
}

// tcpOptions lists those of services that listen on tcp or unix, udpOptions those of services that listen on udp.
func tcpOptions() []string {
	return []string{"connect-timeout", "idle-timeout", "half-close-timeout", "wait", "queue"}
}

func udpOptions() []string {
	return []string{"udp-idle-timeout", "udp-unreplied-timeout", "udp-replies", "ops", "max-flows", "max-client-flows"}
}

// Switches lists the options of services that mean true when they come without a value.
func Switches() []string { return []string{"ops"} }

// ProcessOptions lists the options that are set once.
func ProcessOptions() []string {
	return []string{"drain-timeout", "max-conns", "workers", "engine", "log-format", "log-level", "access-log"}
}

// setOptions applies options: first those for all services, then those that name one, each in the order given.
func (c *Config) setOptions(options []Option) error {
	for _, named := range []bool{false, true} {
		for _, o := range options {
			name, value := "", o.Value
			isProcess := slices.Contains(ProcessOptions(), o.Name)
			if !isProcess {
				name, value = SplitName(o.Value)
			}
			if named != (name != "") {
				continue
			}
			var err error
			if isProcess {
				err = c.Process.set(o.Name, value)
			} else {
				err = c.setService(name, o.Name, value)
			}
			if err != nil {
				return fmt.Errorf("--%s %s: %w", o.Name, o.Value, err)
			}
		}
	}
	return nil
}

// setService sets an option of the service called name, if name is empty of all services that can have it.
func (c *Config) setService(name, option, value string) error {
	network := networkOf(option, value)
	if name != "" {
		s := find(c.Services, name)
		if s == nil && option == "health" && slices.Contains(healthOptions("tcp"), name) {
			return fmt.Errorf("a health check begins with its kind, as in tcp,%s=%s", name, value)
		}
		if s == nil {
			return fmt.Errorf("no service %q%s", name, orHave(name, names(c.Services)))
		}
		if network != "" && network != s.Network() {
			return fmt.Errorf("service %q is %s, this is for %s services%s", name, s.Network(), network, counterpart(option))
		}
		return s.set(option, value)
	}
	applied := false
	for i := range c.Services {
		s := &c.Services[i]
		if network != "" && network != s.Network() {
			continue
		}
		applied = true
		if err := s.set(option, value); err != nil {
			return err
		}
	}
	if !applied {
		return fmt.Errorf("this is for %s services, and there is none%s", network, counterpart(option))
	}
	return nil
}

// networkOf tells which services can have an option: TCP, UDP, or all, which is "".
func networkOf(option, value string) string {
	switch {
	case slices.Contains(tcpOptions(), option):
		return TCP
	case slices.Contains(udpOptions(), option):
		return UDP
	case option == "health" && (hasKind(value, "udp") || hasKind(value, "dns")):
		return UDP
	}
	return ""
}

// counterpart names the option that means the same for services of the other kind.
func counterpart(option string) string {
	switch option {
	case "idle-timeout":
		return " (did you mean --udp-idle-timeout?)"
	case "udp-idle-timeout":
		return " (did you mean --idle-timeout?)"
	}
	return ""
}

func (s *Service) set(option, value string) (err error) {
	switch option {
	case "scheduler":
		s.Scheduler, err = parseScheduler(value)
	case "hash-key":
		s.HashKey, err = parseHashKey(value)
	case "hash-balance":
		s.HashBalance, err = parseBalance(value)
	case "persist":
		s.Persist, err = parsePersist(value)
	case "panic":
		s.Panic, err = parsePanic(value)
	case "eject":
		s.Eject, err = parseEject(value)
	case "slow-start":
		s.SlowStart, err = parseOptional(value)
	case "max-age":
		s.MaxAge, err = parseAge(value)
	case "queue":
		s.Queue, err = parseQueue(value)
	case "agent":
		s.Agent, err = parseAgent(value)
	case "on-drain":
		s.OnDrain, err = parseCut(value)
	case "on-remove":
		s.OnRemove, err = parseCut(value)
	case "health":
		s.Health, err = ParseHealth(value)
	case "fail":
		var word string
		word, err = oneOf(value, "open", "closed")
		s.FailClosed = word == "closed"
	case "connect-timeout":
		s.ConnectTimeout, err = parseDuration(value, minTimeout)
	case "idle-timeout":
		s.IdleTimeout, err = parseOptional(value)
	case "half-close-timeout":
		s.HalfCloseTimeout, err = parseDuration(value, minTimeout)
	case "wait":
		s.Wait, err = parseOptional(value)
	case "udp-idle-timeout":
		s.UDP.IdleTimeout, err = parseDuration(value, minTimeout)
	case "udp-unreplied-timeout":
		s.UDP.UnrepliedTimeout, err = parseDuration(value, minTimeout)
	case "udp-replies":
		s.UDP.Replies, err = parseNumber(value, 0, maxCount)
	case "ops":
		s.UDP.OnePacket, err = parseBool(value)
	case "max-flows":
		s.UDP.MaxFlows, err = parseNumber(value, 0, maxCount)
	case "max-client-flows":
		s.UDP.MaxClientFlows, err = parseNumber(value, 0, maxCount)
	case "on-down":
		s.OnDown, err = parseCut(value)
	default:
		err = fmt.Errorf("unknown option%s", DidYouMean(option, append(ServiceOptions(), ProcessOptions()...)))
	}
	return err
}

func (p *Process) set(option, value string) (err error) {
	switch option {
	case "drain-timeout":
		p.DrainTimeout, err = parseDelay(value)
	case "max-conns":
		p.MaxConns, err = parseNumber(value, 1, maxCount)
	case "workers":
		p.Workers, err = parseNumber(value, 1, maxWorkers)
	case "engine":
		p.Engine, err = oneOf(value, "auto", "epoll", "portable")
	case "log-format":
		p.LogFormat, err = oneOf(value, "console", "json")
	case "log-level":
		p.LogLevel, err = oneOf(value, "debug", "info", "warn", "error")
	case "access-log":
		p.AccessLog, err = parseBool(value)
	}
	return err
}

// maxWorkers is beyond any machine; each worker costs a thread and a socket per listener.
const maxWorkers = 1024

func parseBool(word string) (bool, error) {
	b, err := strconv.ParseBool(word)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", word)
	}
	return b, nil
}

func oneOf(word string, have ...string) (string, error) {
	if !slices.Contains(have, word) {
		return "", fmt.Errorf("unknown value %q%s", word, orHave(word, have))
	}
	return word, nil
}
