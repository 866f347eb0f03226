package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/health"
)

// Queue is where clients wait while every backend has all the flows that it may.
type Queue struct {
	Length  int // 0: there is none
	Timeout time.Duration
}

// String returns the canonical word: parseQueue of it yields the same Queue.
func (q Queue) String() string {
	if q.Length == 0 {
		return "off"
	}
	return strconv.Itoa(q.Length) + "," + short(q.Timeout)
}

// parseQueue reads off or LENGTH,DURATION.
func parseQueue(word string) (q Queue, err error) {
	if word == "off" {
		return Queue{}, nil
	}
	length, timeout, ok := strings.Cut(word, ",")
	if !ok {
		return Queue{}, fmt.Errorf("%q is not LENGTH,DURATION, as in 100,5s", word)
	}
	if q.Length, err = parseNumber(length, 1, maxCount); err != nil {
		return Queue{}, err
	}
	q.Timeout, err = parseDuration(timeout, minTimeout)
	return q, err
}

// Cut says what becomes of the flows of a backend that is down, has orders to drain, or is removed.
type Cut struct {
	How   string        // keep, fin or reset
	After time.Duration // how long they may go on before
}

// String returns the canonical word: parseCut of it yields the same Cut.
func (c Cut) String() string {
	if c.After == 0 {
		return c.How
	}
	return c.How + "," + short(c.After)
}

// parseCut reads keep, fin or reset, and with the last two how long the flows may go on before, as in reset,30s.
func parseCut(word string) (c Cut, err error) {
	how, after, delayed := strings.Cut(word, ",")
	if c.How, err = oneOf(how, "keep", "fin", "reset"); err != nil || !delayed {
		return c, err
	}
	if c.How == "keep" {
		return Cut{}, fmt.Errorf("keep lets flows go on for ever, not for %s", after)
	}
	c.After, err = parseDelay(after)
	return c, err
}

// Age bounds how long a flow may last.
type Age struct {
	Max    time.Duration // 0: for ever
	Jitter int           // in percent of Max, more or less
}

// String returns the canonical word: parseAge of it yields the same Age.
func (a Age) String() string {
	if a.Max == 0 {
		return "off"
	}
	return fmt.Sprintf("%s,jitter=%d%%", short(a.Max), a.Jitter)
}

const defaultAgeJitter = 10

// parseAge reads off or DURATION[,jitter=PERCENT].
func parseAge(word string) (a Age, err error) {
	if word == "off" {
		return Age{}, nil
	}
	head, rest, more := strings.Cut(word, ",")
	a.Jitter = defaultAgeJitter
	if a.Max, err = parseDuration(head, time.Second); err != nil || !more {
		return a, err
	}
	value, ok := strings.CutPrefix(rest, "jitter=")
	if !ok {
		return Age{}, fmt.Errorf("%q is not jitter=PERCENT", rest)
	}
	a.Jitter, err = parsePercent(value, 0)
	return a, err
}

// Eject is passive health: a backend that fails flow after flow is left alone for a while.
type Eject struct {
	Failures int           // in a row; 0: off
	Time     time.Duration // of the first ejection; the next ones are longer
	Share    int           // of the backends, in percent, that may be ejected at once
}

// String returns the canonical word: parseEject of it yields the same Eject.
func (e Eject) String() string {
	if e.Failures == 0 {
		return "off"
	}
	return fmt.Sprintf("%d,time=%s,share=%d%%", e.Failures, short(e.Time), e.Share)
}

// parseEject reads off or FAILURES[,time=DURATION][,share=PERCENT]. What is left out is as in health.DefaultEjectPolicy.
func parseEject(word string) (e Eject, err error) {
	if word == "off" {
		return Eject{}, nil
	}
	head, rest, more := strings.Cut(word, ",")
	d := health.DefaultEjectPolicy()
	e = Eject{Time: d.Base, Share: d.MaxShare}
	if e.Failures, err = parseNumber(head, 1, maxCount); err != nil {
		return Eject{}, err
	}
	if !more {
		return e, nil
	}
	err = eachOption(rest, "option", never, func(key, value string) (err error) {
		switch key {
		case "time":
			e.Time, err = parseDuration(value, minInterval)
		case "share":
			e.Share, err = parsePercent(value, 1)
		default:
			err = fmt.Errorf("no such option %q%s", key, orHave(key, []string{"time", "share"}))
		}
		return err
	})
	return e, err
}

// parsePercent reads a share of at most 100, with or without its sign.
func parsePercent(word string, least int) (int, error) {
	return parseNumber(strings.TrimSuffix(word, "%"), least, 100)
}

// parsePanic reads a share of backends; 0 and off are none.
func parsePanic(word string) (int, error) {
	if word == "off" {
		return 0, nil
	}
	return parsePercent(word, 0)
}

// checkLife looks at what the options of a backend's life need of each other.
func (s *Service) checkLife() error {
	limited, names := false, false
	for _, b := range s.Backends {
		limited = limited || b.Limits.Max > 0 || b.Limits.Upper > 0
		names = names || b.Addr.Name != ""
	}
	unchecked := s.Health.Off() && !s.HasAgents()
	blind := unchecked && s.Eject.Failures == 0 // no backend is ever found down
	switch {
	case s.Queue.Length > 0 && !limited && !s.HasAgents():
		return errors.New("--queue has nothing to wait for: no backend has a limit (--backend ADDR,max=N)")
	case s.Eject.Failures > 0 && len(s.Backends) == 1 && !names:
		return errors.New("--eject has no effect on the only backend")
	case s.Panic > 0 && blind:
		return errors.New("--panic has no effect with --health off: no backend is ever down")
	case s.SlowStart > 0 && blind && !names:
		return errors.New("--slow-start has no effect with --health off: no backend ever comes up")
	case s.OnDown != s.defaultCut() && unchecked:
		return errors.New("--on-down has no effect with --health off: no backend fails its checks")
	case s.MaxAge.Max > 0 && s.UDP.OnePacket:
		return errors.New("--max-age has nothing to end with --ops, which chooses for each datagram")
	}
	if err := cmp.Or(s.checkBackups(), s.checkAgents()); err != nil {
		return err
	}
	for _, b := range s.Backends {
		if err := s.checkTarget(b); err != nil {
			return err
		}
	}
	return s.Persist.check(s)
}

// checkBackups refuses backups of nobody.
func (s *Service) checkBackups() error {
	if slices.ContainsFunc(s.Backends, func(b Backend) bool { return !b.Backup }) {
		return nil
	}
	return errors.New("every backend is a backup: of what?")
}

// checkTarget refuses to say where a backend is checked if it is not, or cannot be there.
func (s *Service) checkTarget(b Backend) error {
	unix := b.Addr.Network == Unix && !b.Check.IP.IsValid()
	switch {
	case b.Check != Addr{} && s.Health.Off():
		return fmt.Errorf("option check of backend %s has no effect with --health off", b.Addr)
	case b.Check != Addr{} && unix:
		return fmt.Errorf("option check of backend %s: a port alone is one of its address, and it has none (give IP:PORT)", b.Addr)
	case s.Health.Port > 0 && unix:
		return fmt.Errorf("health option port: backend %s has none (its option check=IP:PORT says where it is checked)", b.Addr)
	}
	return nil
}

// defaultCut is what becomes of flows whose backend is down or removed, if nobody says so.
func (s *Service) defaultCut() Cut {
	if s.IsUDP() {
		return Cut{How: "reset"}
	}
	return Cut{How: "keep"}
}

// RemovesNothing reports whether --on-remove was given although no backend is ever removed: none is a host name.
func (s *Service) RemovesNothing() bool {
	return s.OnRemove != s.defaultCut() && !slices.ContainsFunc(s.Backends, func(b Backend) bool { return b.Addr.Name != "" })
}
