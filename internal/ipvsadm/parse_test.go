package ipvsadm_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"usher/internal/ipvsadm"
)

func split(line string) []string {
	words := strings.Fields(line)
	for i, word := range words {
		if word == "''" {
			words[i] = ""
		}
	}
	return words
}

// TestUsageErrors checks the texts and statuses that ipvsadm 1.31 of Debian 12 ends with.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	const try = "Try `ipvsadm -h' or 'ipvsadm --help' for more information."
	const s = "-t 1.2.3.4:80"
	for _, test := range []struct {
		line   string
		status int
		text   string
	}{
		{"foo", 255, try},
		{"--foo", 255, try},
		{"''", 255, try},
		{"--", 255, try},
		{"-n -L", 255, try},
		{"--start-daemon", 255, try},
		{"-A -A", 2, "invalid option `-A'"},
		{"-LAn", 2, "invalid option `-LAn'"},
		{"-A --start-daemon master", 2, "invalid option `master'"},
		{"-A -v", 2, "invalid option `-v'"},
		{"-A foo", 2, "unexpected argument foo"},
		{"foo -A " + s, 2, "unexpected argument foo"},
		{"-A -- -t", 2, "unexpected argument -t"},
		{"-A ''", 2, "unexpected argument "},
		{"-A -Q", 255, "-Q: unknown option"},
		{"-LQ", 255, "-LQ: unknown option"},
		{"-A --sched rr", 255, "--sched: unknown option"},
		{"-L -n=", 255, "-n=: option does not take an argument"},
		{"-L --stats=3", 255, "--stats=3: option does not take an argument"},
		{"-A -t", 255, "-t: missing argument"},
		{"-A", 2, "You need to supply the 'service-address' option for the 'add-service' command"},
		{"-a " + s, 2, "You need to supply the 'real-server' option for the 'add-server' command"},
		{"-D -s rr", 2, "You need to supply the 'service-address' option for the 'delete-service' command"},
		{"-D -s rr " + s, 2, "Illegal 'scheduler' option with the 'delete-service' command"},
		{"-C -n", 2, "Illegal 'numeric' option with the 'flush' command"},
		{"-a -m " + s + " -r 5.5.5.5 -i", 2, "multiple 'forwarding-method' options specified"},
		{"-A -t 1.2.3.4:80 -u 1.2.3.4:80", 2, "multiple 'service-address' options specified"},
		{"-Lc " + s, 2, "The option 'service-address' conflicts with the 'connection' option in the 'list' command"},
		{"-Lc --stats", 2, "options conflicts in the list command"},
		{"-L --timeout --persistent-conn", 2, "options conflicts in the list command"},
		{"-A -t 1.2.3.4", 2, "Zero port specified for non-persistent service"},
		{"-A -t [1.2.3.4]:80", 2, "Zero port specified for non-persistent service"},
		{"-A -o " + s, 2, "One-Packet Scheduling is only for UDP virtual services"},
		{"-A -t 80", 2, "illegal virtual server address[:port] specified"},
		{"-A -t [::1]", 2, "illegal virtual server address[:port] specified"},
		{"-A -t 1.2.3.4:65536", 2, "illegal virtual server address[:port] specified"},
		{"-A -t 1.2.3.4:90-80", 2, "illegal virtual server address[:port] specified"},
		{"-A -t 1.2.3.4.5:80", 2, "illegal virtual server address[:port] specified"},
		{"-A -t fe80::1%lo", 2, "illegal virtual server address[:port] specified"},
		{"-a -r 5.5.5.5:1-2 " + s, 2, "illegal real server address[:port] specified"},
		{"-a -r [::1]:80 -m " + s, 2, "Different address family is allowed only for tunneling servers"},
		{"-A -f 0", 2, "invalid fwmark value `0' specified"},
		{"-A -f 4294967296", 2, "invalid fwmark value `4294967296' specified"},
		{"-A -6 -f 1", 2, "-6 used before -f\n"},
		{"-A -p 0 " + s, 2, "invalid timeout value `0' specified"},
		{"-A -p 2678401 " + s, 2, "invalid timeout value `2678401' specified"},
		{"-A -p -M foo " + s, 2, "illegal virtual server persistent mask specified"},
		{"-A -p -M 255.0.255.0 " + s, 255, "usher groups clients by prefix: use a netmask without holes, such as 255.255.255.0"},
		{"-A -f 1 -6 -p -M 129", 2, "illegal ipv6 netmask specified"},
		{"-A -b foo " + s, 2, "invalid scheduler flag `foo'"},
		{"-A -b mh-port " + s, 2, "incompatible scheduler flag `mh-port'"},
		{"-a -r 5.5.5.5 -w 2147483648 " + s, 2, "illegal weight specified"},
		{"-a -r 5.5.5.5 -w -1 " + s, 2, "illegal weight specified"},
		{"-a -r 5.5.5.5 -x 2147483648 " + s, 2, "illegal u_threshold specified"},
		{"-a -r 5.5.5.5 -y x " + s, 2, "illegal l_threshold specified"},
		{"-a -r 5.5.5.5 --tun-type foo " + s, 2, "illegal tunnel type specified"},
		{"-a -r 5.5.5.5 --tun-type gue " + s, 2, "Tunnel options conflict with forward method"},
		{"-a -i -r 5.5.5.5 --tun-type gue " + s, 2, "You need to supply the 'tun-port' option for the 'gue' tunnel type"},
		{"-a -i -r 5.5.5.5 --tun-type gre --tun-port 4 " + s, 2, "Illegal 'tun-port' option with the 'gre' tunnel type"},
		{"-a -i -r 5.5.5.5 --tun-type gre --tun-csum --tun-nocsum " + s, 2,
			"The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type"},
		{"--set 1 2", 2, "--set option requires 3 timeout values"},
		{"--set 1 2 3 4", 2, "unexpected argument 4"},
		{"--set 1 2 -3", 255, "-3: unknown option"},
		{"--set -- 1 2 -3", 2, "invalid timeout value `-3' specified"},
		{"--start-daemon foo", 2, "illegal start-daemon parameter specified"},
		{"--stop-daemon foo", 2, "illegal start_daemon specified"},
		{"--start-daemon master --syncid 256", 2, "illegal syncid specified"},
		{"--start-daemon master --mcast-group 1.2.3.4", 2, "invalid IPv4 mcast-group `1.2.3.4'"},
	} {
		_, err := ipvsadm.Parse(split(test.line))
		e, is := errors.AsType[*ipvsadm.Error](err)
		if !is || e.Status != test.status || e.Text != test.text {
			t.Errorf("ipvsadm %s: %+v\nwant %d, %s", test.line, err, test.status, test.text)
		}
	}
	restored := ipvsadm.Parser{Program: "/sbin/ipvsadm", IsRestoring: true}
	_, err := restored.Parse([]string{"-R"})
	if want := "Try `/sbin/ipvsadm -h' or '/sbin/ipvsadm --help' for more information."; err == nil || err.Error() != want {
		t.Error(err)
	}
}

// TestWords checks how words become a command, by the line that says the same in usher's words.
func TestWords(t *testing.T) {
	t.Parallel()
	p := ipvsadm.Parser{
		Host: func(name string) (netip.Addr, bool) { return netip.MustParseAddr("127.0.0.1"), name == "localhost" },
		Port: func(service string, p ipvsadm.Protocol) (uint16, bool) {
			return 80, service == "http" && p == ipvsadm.TCP
		},
	}
	for _, test := range []struct{ line, want string }{
		{"-At1.2.3.4:80", "-A -t 1.2.3.4:80 -s wlc"},
		{"-A -t=1.2.3.4:80 -s=rr", "-A -t 1.2.3.4:80 -s rr"},
		{"--add-service --tcp-service=localhost:http --scheduler rr", "-A -t 127.0.0.1:80 -s rr"},
		{"-E -f 4294967295 -6 -p -M 64", "-E -f 4294967295 -6 -s wlc -p 360 -M 64"},
		{"-A -f 1 -p 5 -o -s mh -b mh-port,flag-1", "-A -f 1 -s mh -p 5 -o -b mh-fallback,mh-port"},
		{"-A -t 0x7f.1:0 -p=9 --pe sip -M 255.255.0.0", "-A -t 127.0.0.1:0 -s wlc -p 9 -M 255.255.0.0 --pe sip"},
		{"-A -M 255.255.0.0 -t [2001:db8::1]:80 -p 1", "-A -t [2001:db8::1]:80 -s wlc -p 1"},
		{"-A -t ::1 -p -s twos", "-A -t [::1]:0 -s twos -p 360"},
		{"-A -t ::1.2.3.4 -p -s twos", "-A -t [::1.2.3.4]:0 -s twos -p 360"},
		{"-A -u 10.0.0.1:8000-8010 -s rr", "-A -u 10.0.0.1:8000-8010 -s rr"},
		{"-a -t 1.2.3.4:80 -r 5.5.5.5", "-a -t 1.2.3.4:80 -r 5.5.5.5:80 -g -w 1"},
		{"-a -t 1.2.3.4:80 -r 5.5.5.5:90 -i --tun-type gue --tun-port 5 --tun-csum", "-a -t 1.2.3.4:80 -r 5.5.5.5:80 -i -w 1 --tun-type gue --tun-port 5 --tun-csum"},
		{"-e -t 1.2.3.4:80 -r 5.5.5.5:90 -m -w 0 -y 1 -x 2", "-e -t 1.2.3.4:80 -r 5.5.5.5:90 -m -w 0 -x 2 -y 1"},
		{"-a -t 1.2.3.4:80-90 -r 5.5.5.5 -m", "-a -t 1.2.3.4:80-90 -r 5.5.5.5:0 -m -w 1"},
		{"-a -r 5.5.5.5 -t 1.2.3.4:80 -m", "-a -t 1.2.3.4:80 -r 5.5.5.5:0 -m -w 1"},
		{"-d --sctp-service 1.2.3.4:80 -r 5.5.5.5", "-d --sctp-service 1.2.3.4:80 -r 5.5.5.5:80"},
		{"-D -f 7", "-D -f 7"},
		{"--zero", "-Z"},
		{"-Z -t 0.0.0.0:0", "-Z"},
		{"-Z -t 1.2.3.4:80", "-Z -t 1.2.3.4:80"},
		{"--clear", "-C"},
		{"1 --set 2 3", "--set 1 2 3"},
		{"-L", ""},
	} {
		c, err := p.Parse(split(test.line))
		if err != nil || c.Line() != test.want {
			t.Errorf("ipvsadm %s: %v: %q, want %q", test.line, err, c.Line(), test.want)
			continue
		}
		if again, err := ipvsadm.Parse(split(c.Line())); test.want != "" && (err != nil || !reflect.DeepEqual(again, c)) {
			t.Errorf("%s: %v: %+v, want %+v", c.Line(), err, again, c)
		}
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-a -t 1.2.3.4:80 -r 5.5.5.5":         "direct routing (-g, the default)",
		"-e -t 1.2.3.4:80 -r 5.5.5.5 -i":      "tunneling (-i)",
		"-A -t 1.2.3.4 -p":                    "usher opens a socket for each port",
		"-a -t 1.2.3.4:80 -r 5.5.5.5 -m":      "",
		"-A -t 1.2.3.4:80":                    "",
		"-A -t 1.2.3.4:80 -s none":            "without a scheduler",
		"-A -t 1.2.3.4:80 -p --pe sip":        "SIP",
		"-A --sctp-service 1.2.3.4:80":        "SCTP",
		"--start-daemon master --syncid 1":    "no sync daemon",
		"-d -t 1.2.3.4:80 -r 5.5.5.5":         "",
		"-a -f 1 -6 -r [::1]:80 -m -w 0 -x 1": "",
	} {
		c, err := ipvsadm.Parse(split(line))
		if err != nil {
			t.Fatal(line, err)
		}
		e := c.Unsupported()
		if (e == nil) != (want == "") || e != nil && (!strings.Contains(e.Text, want) || e.Status != 255) {
			t.Errorf("%s: %v, want %q", line, e, want)
		}
	}
}

func TestReadLines(t *testing.T) {
	t.Parallel()
	var got []string
	for words, err := range ipvsadm.ReadLines(strings.NewReader("ipvsadm -A\t-f 1\r\n\n  \n# no comment\n-C")) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Join(words, "|"))
	}
	if want := []string{"-A|-f|1", "#|no|comment", "-C"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for words, err := range ipvsadm.ReadLines(strings.NewReader("-C\n" + strings.Repeat("x", 1<<20))) {
		if words == nil && (err == nil || !strings.HasPrefix(err.Error(), "line 2: ")) {
			t.Error(err)
		}
	}
}

// FuzzParse checks that no words panic, and that a command says the same again in its own line.
func FuzzParse(f *testing.F) {
	f.Add("-A -t 1.2.3.4:80 -s sh -b sh-port -p 5 -M 255.0.0.0")
	f.Add("-a -f 7 -6 -r [::1]:1 -i --tun-type gue --tun-port 1 -x 5 -y 2")
	f.Add("--set 1 2 3")
	f.Add("-Lnc --persistent-conn=")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ipvsadm.Parse(split(line))
		if err != nil {
			if _, is := errors.AsType[*ipvsadm.Error](err); !is {
				t.Fatalf("%T", err)
			}
			return
		}
		if c.Line() == "" {
			return
		}
		again, err := ipvsadm.Parse(split(c.Line()))
		if err != nil || again.Line() != c.Line() {
			t.Errorf("%q: %q: %v", line, c.Line(), err)
		}
	})
}
