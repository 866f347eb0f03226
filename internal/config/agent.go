package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Agent says how the agents of a service's backends are asked, each for the weight and the status of its own backend.
type Agent struct {
	Port              int    // of each backend's address; 0: only backends whose options say where have one
	Send              string // what an agent is told first
	Interval, Timeout time.Duration
}

// DefaultAgent has no port: backends have no agents.
func DefaultAgent() Agent { return Agent{Interval: 2 * time.Second, Timeout: time.Second} }

// String returns the canonical word: parseAgent of it yields the same Agent.
func (a Agent) String() string {
	if a.Port == 0 {
		return "off"
	}
	word := fmt.Sprint(a.Port)
	if a.Send != "" {
		word += ",send=" + formatPayload(a.Send)
	}
	return fmt.Sprintf("%s,interval=%s,timeout=%s", word, short(a.Interval), short(a.Timeout))
}

// parseAgent reads off or PORT[,send=TEXT][,interval=DURATION][,timeout=DURATION].
func parseAgent(word string) (a Agent, err error) {
	if word == "off" {
		return DefaultAgent(), nil
	}
	head, rest, more := cutUnescaped(word, ',')
	a = DefaultAgent()
	if a.Port, err = parseNumber(head, 1, math.MaxUint16); err != nil {
		return Agent{}, err
	}
	timed := false
	if more {
		err = eachOption(rest, "option", never, func(key, value string) (err error) {
			switch key {
			case "send":
				a.Send, err = parsePayload(value)
			case "interval":
				a.Interval, err = parseDuration(value, minInterval)
			case "timeout":
				timed = true
				a.Timeout, err = parseDuration(value, minTimeout)
			default:
				return fmt.Errorf("no such option %q%s", key, orHave(key, []string{"send", "interval", "timeout"}))
			}
			if err != nil {
				return fmt.Errorf("option %s: %w", key, err)
			}
			return nil
		})
		if err != nil {
			return Agent{}, err
		}
	}
	if err := fitTimeout(&a.Timeout, a.Interval, timed); err != nil {
		return Agent{}, fmt.Errorf("option timeout: %w", err)
	}
	return a, nil
}

// HasAgents reports whether any backend may have an agent.
func (s *Service) HasAgents() bool {
	return s.Agent.Port > 0 || slices.ContainsFunc(s.Backends, func(b Backend) bool { return b.Agent != Addr{} })
}

// checkAgents refuses agents that are nowhere, and what only they could order.
func (s *Service) checkAgents() error {
	if s.OnDrain.How != "keep" && !s.HasAgents() {
		return errors.New("--on-drain has no effect: nobody has a backend drain (--agent PORT)")
	}
	for _, b := range s.Backends {
		if b.Addr.Network != Unix || b.Agent.IP.IsValid() {
			continue
		}
		if s.Agent.Port > 0 || b.Agent.Port > 0 {
			return fmt.Errorf("--agent: backend %s has no ports (its option agent=IP:PORT says where its agent is)", b.Addr)
		}
	}
	return nil
}
