package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"usher/balancer"
)

// ServiceOptions lists the options that each service has, [NAME=]VALUE on the command line.
func ServiceOptions() []string {
	return []string{"scheduler", "health", "fail", "connect-timeout", "idle-timeout", "half-close-timeout", "wait"}
}

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

// setService sets an option of the service called name, of all services if name is empty.
func (c *Config) setService(name, option, value string) error {
	if name != "" {
		s := find(c.Services, name)
		if s == nil && option == "health" && slices.Contains(healthOptions(), name) {
			return fmt.Errorf("a health check begins with its kind, as in tcp,%s=%s", name, value)
		}
		if s == nil {
			return fmt.Errorf("no service %q%s", name, orHave(name, names(c.Services)))
		}
		return s.set(option, value)
	}
	for i := range c.Services {
		if err := c.Services[i].set(option, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) set(option, value string) (err error) {
	switch option {
	case "scheduler":
		s.Scheduler, err = parseScheduler(value)
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
		p.MaxConns, err = parseCount(value, maxCount)
	case "workers":
		p.Workers, err = parseCount(value, maxWorkers)
	case "engine":
		p.Engine, err = oneOf(value, "auto", "epoll", "portable")
	case "log-format":
		p.LogFormat, err = oneOf(value, "console", "json")
	case "log-level":
		p.LogLevel, err = oneOf(value, "debug", "info", "warn", "error")
	case "access-log":
		if p.AccessLog, err = strconv.ParseBool(value); err != nil {
			err = fmt.Errorf("%q is neither true nor false", value)
		}
	}
	return err
}

// maxWorkers is beyond any machine; each worker costs a thread and a socket per listener.
const maxWorkers = 1024

// parseScheduler looks a scheduler up. People come with the names that other balancers use; the nearest word is sought
// among those too.
func parseScheduler(word string) (string, error) {
	have := balancer.Schedulers()
	if slices.Contains(have, word) {
		return word, nil
	}
	elsewhere := map[string]string{
		"roundrobin": "rr", "round-robin": "rr",
		"leastconn": "lc", "least-conn": "lc", "least-connections": "lc",
		"maglev": "mh", "maglev-hash": "mh",
	}
	candidates := slices.Clone(have)
	for name, short := range elsewhere {
		if slices.Contains(have, short) {
			candidates = append(candidates, name)
		}
	}
	slices.Sort(candidates[len(have):])
	near := Nearest(strings.ReplaceAll(strings.ToLower(word), "_", "-"), candidates)
	if short, ok := elsewhere[near]; ok {
		near = short
	}
	all := "have " + strings.Join(have, ", ")
	if near != "" {
		return "", fmt.Errorf("unknown scheduler %q (did you mean %q? %s)", word, near, all)
	}
	return "", fmt.Errorf("unknown scheduler %q (%s)", word, all)
}

func oneOf(word string, have ...string) (string, error) {
	if !slices.Contains(have, word) {
		return "", fmt.Errorf("unknown value %q%s", word, orHave(word, have))
	}
	return word, nil
}
