package ipvsadm

import (
	"bufio"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// Save writes what -S prints, sorted as listings are, and what that forgets: thresholds, and timeouts that are not those
// of the kernel. The real ipvsadm -R reads all these lines. States that differ in order alone are saved alike.
func (s *State) Save(w io.Writer, n Names) error {
	out := bufio.NewWriter(w)
	services := s.Services()
	keys := make([]sortKey, len(services))
	for i, v := range services {
		keys[i] = v.Key.sortKey()
	}
	line := s.appendTimeouts(nil)
	for _, i := range sortedForSave(keys) {
		v := services[i]
		line = append(v.appendTo(line, Add, n), '\n')
		destinations := make([]sortKey, len(v.Destinations))
		for j := range v.Destinations {
			destinations[j] = addrSortKey(v.Destinations[j].Addr)
		}
		for _, j := range sortedForSave(destinations) {
			line = append(v.Destinations[j].appendTo(line, AddServer, v.Key, n), '\n')
		}
		out.Write(line)
		line = line[:0]
	}
	out.Write(line)
	return out.Flush()
}

// Lines yields commands that make s of a new State, order included.
func (s *State) Lines() iter.Seq[string] {
	return func(yield func(string) bool) {
		if line := s.appendTimeouts(nil); len(line) > 0 && !yield(strings.TrimSuffix(string(line), "\n")) {
			return
		}
		for r := range s.services.oldestFirst() {
			if !yield(string(r.service.appendTo(nil, Add, Names{}))) {
				return
			}
			for d := range r.destinations.oldestFirst() {
				if !yield(string(d.appendTo(nil, AddServer, r.service.Key, Names{}))) {
					return
				}
			}
		}
	}
}

func (s *State) appendTimeouts(b []byte) []byte {
	if s.Timeouts == DefaultTimeouts() {
		return b
	}
	return append(s.Timeouts.appendTo(b), '\n')
}

// Line returns the command as a line that Parse reads without a name to look up. It is empty for commands that do not
// change a State.
func (c *Command) Line() string {
	v, d := &c.Service, &c.Destination
	switch c.Op {
	case Add, Edit:
		return string(v.appendTo(nil, c.Op, Names{}))
	case AddServer, EditServer:
		return string(d.appendTo(nil, c.Op, v.Key, Names{}))
	case DeleteServer:
		return "-d " + string(Names{}.appendAddr(append(v.Key.appendTo(nil, Names{}), " -r "...), d.Addr, v.Protocol))
	case Delete:
		return "-D " + string(v.Key.appendTo(nil, Names{}))
	case Zero:
		if c.HasService {
			return "-Z " + string(v.Key.appendTo(nil, Names{}))
		}
		return "-Z"
	case Flush:
		return "-C"
	case SetTimeouts:
		return string(c.Timeouts.appendTo(nil))
	}
	return ""
}

func (t Timeouts) appendTo(b []byte) []byte {
	b = append(b, "--set"...)
	for _, seconds := range []uint32{t.TCP, t.TCPFin, t.UDP} {
		b = appendUint(append(b, ' '), seconds)
	}
	return b
}

// String names the service as options do, such as -t 10.0.0.1:80.
func (k Key) String() string { return string(k.appendTo(nil, Names{})) }

// ParseKey reads what String writes.
func ParseKey(s string) (Key, error) {
	c, err := Parse(append([]string{"-D"}, strings.Fields(s)...))
	if err != nil {
		return Key{}, err
	}
	return c.Service.Key, nil
}

// appendTo appends the options that name a service.
func (k Key) appendTo(b []byte, n Names) []byte {
	if k.Mark != 0 {
		b = appendUint(append(b, "-f "...), k.Mark)
		if k.IPv6 {
			b = append(b, " -6"...)
		}
		return b
	}
	switch k.Protocol {
	case TCP:
		b = append(b, "-t "...)
	case UDP:
		b = append(b, "-u "...)
	default:
		b = append(b, "--sctp-service "...)
	}
	return n.appendService(b, k)
}

func (v *Service) appendTo(b []byte, op Op, n Names) []byte {
	b = append(b, "-A "...)
	if op == Edit {
		b[len(b)-2] = 'E'
	}
	b = append(append(v.Key.appendTo(b, n), " -s "...), v.schedulerWord()...)
	if v.Persist != 0 {
		b = appendUint(append(b, " -p "...), v.Persist)
		if mask := v.Key.mask(v.Bits); mask != "" {
			b = append(append(b, " -M "...), mask...)
		}
	}
	if v.Engine != "" {
		b = append(append(b, " --pe "...), v.Engine...)
	}
	if v.OnePacket {
		b = append(b, " -o"...)
	}
	if len(v.Flags) > 0 {
		b = append(append(b, " -b "...), strings.Join(v.Flags, ",")...)
	}
	return b
}

// schedulerWord is the scheduler as one word. A name with blanks, which no scheduler has, must not become options.
func (v *Service) schedulerWord() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return '?'
		}
		return r
	}, v.Scheduler)
}

// mask is a mask of persistence in words; empty if it is all of the address.
func (k Key) mask(bits int) string {
	switch {
	case bits == k.addressBits():
		return ""
	case k.isIPv6():
		return strconv.Itoa(bits)
	}
	ones := uint32(uint64(0xffffffff) << (32 - bits) & 0xffffffff)
	return netip.AddrFrom4([4]byte{byte(ones >> 24), byte(ones >> 16), byte(ones >> 8), byte(ones)}).String()
}

func (d *Destination) appendTo(b []byte, op Op, of Key, n Names) []byte {
	b = append(b, "-a "...)
	if op == EditServer {
		b[len(b)-2] = 'e'
	}
	b = n.appendAddr(append(of.appendTo(b, n), " -r "...), d.Addr, of.Protocol)
	switch d.Method {
	case Masq:
		b = append(b, " -m"...)
	case Tunnel:
		b = append(b, " -i"...)
	default:
		b = append(b, " -g"...)
	}
	b = strconv.AppendInt(append(b, " -w "...), int64(d.Weight), 10)
	if d.Method == Tunnel {
		b = d.appendTunnel(b)
	}
	if d.Upper != 0 {
		b = appendUint(append(b, " -x "...), d.Upper)
	}
	if d.Lower != 0 {
		b = appendUint(append(b, " -y "...), d.Lower)
	}
	return b
}

func (d *Destination) appendTunnel(b []byte) []byte {
	b = append(append(b, " --tun-type "...), d.TunnelType.name()...)
	if d.TunnelType == GUE {
		b = appendUint(append(b, " --tun-port "...), uint32(d.TunnelPort))
	}
	switch {
	case d.TunnelType == IPIP:
	case d.TunnelFlags == tunnelRemCsum:
		b = append(b, " --tun-remcsum"...)
	case d.TunnelFlags == tunnelCsum:
		b = append(b, " --tun-csum"...)
	default:
		b = append(b, " --tun-nocsum"...)
	}
	return b
}

func appendUint(b []byte, n uint32) []byte { return strconv.AppendUint(b, uint64(n), 10) }
