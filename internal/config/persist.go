package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Persist says how the clients of a service are kept at their backends.
type Persist struct {
	Timeout      time.Duration // after a client's last new flow; 0: not at all
	Bits4, Bits6 int           // of its address, which make one client of many; 0: all
	// LeaveQuiesced and LeaveOverloaded send a client elsewhere whose backend has weight 0 or drains, or has reached its
	// upper threshold. IPVS does neither.
	LeaveQuiesced, LeaveOverloaded bool
}

// String returns the canonical word: parsePersist of it yields the same Persist.
func (p Persist) String() string {
	if p.Timeout == 0 {
		return "off"
	}
	word := short(p.Timeout) + formatBits(p.Bits4, p.Bits6)
	if p.LeaveQuiesced {
		word += ",quiesced=leave"
	}
	if p.LeaveOverloaded {
		word += ",overloaded=leave"
	}
	return word
}

// parsePersist reads off or DURATION[/BITS[/BITS6]], then options: quiesced=stay|leave, overloaded=stay|leave.
func parsePersist(word string) (p Persist, err error) {
	if word == "off" {
		return Persist{}, nil
	}
	head, rest, more := strings.Cut(word, ",")
	duration, bits, masked := strings.Cut(head, "/")
	if p.Timeout, err = parseDuration(duration, time.Second); err != nil {
		return Persist{}, err
	}
	if masked {
		if p.Bits4, p.Bits6, err = parseBits(bits); err != nil {
			return Persist{}, err
		}
	}
	if !more {
		return p, nil
	}
	err = eachOption(rest, "option", never, func(key, value string) error {
		var field *bool
		switch key {
		case "quiesced":
			field = &p.LeaveQuiesced
		case "overloaded":
			field = &p.LeaveOverloaded
		default:
			return fmt.Errorf("no such option %q%s", key, orHave(key, []string{"quiesced", "overloaded"}))
		}
		word, err := oneOf(value, "stay", "leave")
		if err != nil {
			return fmt.Errorf("option %s: %w", key, err)
		}
		*field = word == "leave"
		return nil
	})
	return p, err
}

// check refuses persistence where it cannot act.
func (p Persist) check(s *Service) error {
	switch {
	case p.Timeout == 0:
		return nil
	case s.UDP.OnePacket:
		return errors.New("--persist has nothing to keep together with --ops, which chooses for each datagram")
	case s.Listeners[0].Network == Unix && allUnix(s.Listeners):
		return errors.New("--persist knows clients by their addresses, and those of a unix socket have none")
	case p.LeaveOverloaded && !s.hasThresholds():
		return errors.New("--persist overloaded=leave has no effect: no backend has an upper threshold (upper=N)")
	}
	return nil
}

func allUnix(listeners []Addr) bool {
	for _, l := range listeners {
		if l.Network != Unix {
			return false
		}
	}
	return true
}

func (s *Service) hasThresholds() bool {
	for _, b := range s.Backends {
		if b.Limits.Upper > 0 {
			return true
		}
	}
	return false
}
