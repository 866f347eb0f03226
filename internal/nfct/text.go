package nfct

import "fmt"

// release is of the program whose words and texts these are.
const release = "1.4.7"

// Prefix begins the messages of conntrack.
const Prefix = "conntrack v" + release + " (conntrack-tools)"

// Message is a line for stderr.
func Message(format string, args ...any) string {
	return Prefix + ": " + fmt.Sprintf(format, args...) + "\n"
}

// Message is what is printed of an error.
func (e *Error) Message() string {
	text := Prefix + ": " + e.Text + "\n"
	if e.Status == UsageError {
		text += "Try `conntrack -h' or 'conntrack --help' for more information.\n"
	}
	return text
}

// Losing is what conntrack says when it was too slow for the events.
const Losing = "WARNING: We have hit ENOBUFS! We are losing events.\n" +
	"This message means that the current netlink socket buffer size is too small.\n" +
	"Please, check --buffer-size in conntrack(8) manpage.\n"

// Missing is why -G fails.
const Missing = "Operation failed: such conntrack doesn't exist"

// Usage is the page of -h.
const Usage = `Command line interface for the connection tracking system. Version ` + release + `
Usage: conntrack [commands] [options]

Commands, of the flows of the running usher:
  -L [table]    lists them          -E   prints what happens to them, until Ctrl-C
  -G            prints one          -C   counts them
  -D            ends them           -S   prints counters of each worker
  -F            ends all            -V   the version

Which flows:
  -s, --src ADDR[/BITS]      -d, --dst ADDR[/BITS]     of the client, and the address that it asked for
  -r, --reply-src ADDR       -q, --reply-dst ADDR      of the backend, and usher's own towards it
  -n, --src-nat [ADDR]       -g, --dst-nat [ADDR]      -j, --any-nat [ADDR]
  -p, --protonum tcp|udp     then --sport, --dport, --reply-port-src, --reply-port-dst PORT, --state STATE
  -f, --family ipv4|ipv6     -u, --status ASSURED|SEEN_REPLY|UNREPLIED
  -m, --mark N               -w, --zone N              0 of all flows

How:
  -o, --output extended,id,xml,save,timestamp,json
  -e, --event-mask ALL,NEW,UPDATES,DESTROY             of -E

Tables: conntrack; expect, dying and unconfirmed have no entries. What makes or changes an entry is refused.
`
