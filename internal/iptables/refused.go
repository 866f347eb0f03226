package iptables

// What has no meaning in a proxy, with the reason and what there is instead.

const (
	forwards   = "usher forwards no packets; new flows are judged in INPUT"
	translates = "usher translates no addresses: a service with a backend has that effect"
	sees       = "a proxy sees connections and datagrams, not the headers of packets"
	marks      = "packets have no mark here"
	carries    = "usher carries tcp and udp alone"
)

// refusedCommands has the letters of commands that a list of rules knows no use for.
var refusedCommands = map[byte]string{
	'D': "leave the rule out of the list", 'R': "change the rule in the list", 'F': "a list has what stands in it",
	'X': "leave the chain out of the list", 'E': "change the name in the list", 'Z': "counters are not part of a list",
	'L': "usher rules lists them", 'S': "usher config prints them", 'C': "usher rules lists them",
	'V': "usher version prints it", 'h': "usher help rules has the words",
}

var refusedTables = map[string]string{
	"nat": translates, "mangle": "usher changes no packets", "raw": "usher knows all of its flows", "security": "usher knows no labels",
}

var refusedChains = map[string]string{
	"FORWARD": forwards, "OUTPUT": "usher's own connections go to backends alone", "PREROUTING": translates, "POSTROUTING": translates,
}

var refusedMatches = map[string]string{
	"icmp": carries, "icmp6": carries, "sctp": carries,
	"dccp": carries, "esp": carries, "ah": carries,
	"ttl": sees, "hl": sees, "tos": sees, "dscp": sees, "ecn": sees, "length": sees, "tcpmss": sees, "u32": sees, "bpf": sees,
	"string": sees, "ipv6header": sees, "frag": sees, "pkttype": sees, "mac": "a proxy sees no hardware addresses",
	"physdev": "a proxy sees no bridge: -i has the interface", "owner": "clients are no processes of this machine",
	"mark": marks, "connmark": marks, "set": "a rule has addresses: -s 10.0.0.0/8,192.168.0.0/16 makes a rule of each",
	"iprange": "write the range as prefixes: -s 10.0.0.0/25,10.0.0.128/26", "addrtype": "-d has the address that a client asked for",
	"connbytes": "rules see new flows, which have no bytes yet", "quota": "rules see new flows, which have no bytes yet",
	"time": "change the rules at the time", "rateest": "-m limit and -m hashlimit bound rates", "helper": "usher knows no helpers",
	"dstlimit": "-m hashlimit with --hashlimit-mode dstip does that", "iplimit": "-m connlimit does that",
	"socket": "every flow has a socket here", "policy": "a proxy sees no IPsec", "geoip": "write the prefixes of the country",
	"random": "-m statistic --mode random does that", "nth": "-m statistic --mode nth does that", "psd": "a proxy sees connections alone",
}

var refusedTargets = map[string]string{
	"DNAT": translates, "SNAT": translates, "MASQUERADE": translates, "REDIRECT": translates, "NETMAP": translates, "TPROXY": translates,
	"MARK": marks, "CONNMARK": marks, "SECMARK": marks, "CONNSECMARK": marks, "CLASSIFY": "usher changes no packets",
	"TOS": "usher changes no packets", "DSCP": "usher changes no packets", "TTL": "usher changes no packets", "HL": "usher changes no packets",
	"ECN": "usher changes no packets", "TCPMSS": "usher changes no packets", "TCPOPTSTRIP": "usher changes no packets",
	"CHECKSUM": "usher changes no packets", "CT": "usher knows all of its flows", "NOTRACK": "usher knows all of its flows",
	"QUEUE": "no other program judges flows", "NFQUEUE": "no other program judges flows",
	"NFLOG": "LOG writes a line to usher's log", "ULOG": "LOG writes a line to usher's log", "AUDIT": "LOG writes a line to usher's log",
	"TRACE": "LOG writes a line to usher's log", "SET": "-m recent --set keeps addresses", "TARPIT": "DROP holds a client unanswered",
	"TEE": "usher copies no packets", "CLUSTERIP": "run usher on each machine", "SYNPROXY": "the kernel has made the connection already",
	"MIRROR": "DROP and REJECT refuse a client", "IDLETIMER": "services have an idle timeout", "LED": "LOG writes a line to usher's log",
	"RATEEST": "-m limit and -m hashlimit bound rates",
}

var refusedFlags = map[string]string{
	"-g": "use -j, and RETURN or a target for all at the end of the chain", "--goto": "use -j, and RETURN or a target for all at the end of the chain",
	"-o": "rules see clients, which come in by -i", "--out-interface": "rules see clients, which come in by -i",
	"-4": "one list has the addresses of both families", "-6": "one list has the addresses of both families",
	"-f": sees, "--fragment": sees, "-c": "counters are not part of a rule", "--set-counters": "counters are not part of a rule",
	"--tcp-option": sees, "--icmp-type": carries, "--to-destination": translates, "--to-source": translates,
	"--to-ports": translates, "--log-tcp-options": sees, "--log-ip-options": sees, "--log-tcp-sequence": sees,
	"--log-uid": "clients are no processes of this machine", "--log-macdecode": "a proxy sees no hardware addresses",
	"--ctproto": "conntrack has --ctstate alone; use -p", "--ctorigsrc": "conntrack has --ctstate alone; use -s",
	"--ctorigdst": "conntrack has --ctstate alone; use -d", "--ctorigsrcport": "conntrack has --ctstate alone; use --sport",
	"--ctorigdstport": "conntrack has --ctstate alone; use --dport", "--ctreplsrc": "conntrack has --ctstate alone",
	"--ctstatus": "conntrack has --ctstate alone", "--ctexpire": "conntrack has --ctstate alone", "--ctdir": "conntrack has --ctstate alone",
	"--hashlimit-rate-match": "a rate counts new flows", "--hashlimit-rate-interval": "a rate counts new flows",
	"-n": "a list has no listings", "-v": "a list has no listings", "-x": "a list has no listings", "--line-numbers": "a list has no listings",
	"-W": "no other program holds the rules", "-M": "usher loads no modules", "--rttl": sees, "-w": "no other program holds the rules", "--wait": "no other program holds the rules",
}
