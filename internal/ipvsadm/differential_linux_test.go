package ipvsadm_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/shell"

	"usher/internal/ipvsadm"
	"usher/internal/race"
)

// compare runs a command line with both and reports a difference. Both kernels know the same. It returns false
// for a mask with holes, which usher alone refuses: the real program does not see that command.
func compare(t *testing.T, r *real, k *kernel, m *machine, stdin string, args ...string) bool {
	t.Helper()
	got := m.run(stdin, args...)
	if strings.Contains(got.stderr, "usher groups clients by prefix") {
		return false
	}
	want := r.run(t, k, stdin, args...)
	got.stdout = forgotten.ReplaceAllString(got.stdout, "")
	got.stdout = thirdFlag.ReplaceAllString(got.stdout, "$1")
	want.stdout = help.ReplaceAllString(want.stdout, "")
	want.stdout = negative.ReplaceAllStringFunc(want.stdout, func(option string) string {
		mark, _ := strconv.ParseInt(option[len("-f "):], 10, 64)
		return fmt.Sprintf("-f %d", uint32(mark))
	})
	if got != want {
		t.Errorf("%q < %q\nipvsadm %d %q, usher %d %q\n%s", args, stdin, want.code, want.stderr, got.code, got.stderr,
			cmp.Diff(strings.Split(want.stdout, "\n"), strings.Split(got.stdout, "\n")))
	}
	return true
}

// What usher does otherwise.
var (
	forgotten = regexp.MustCompile(`(?m) -[xy] \d+|^--set .*\n`)         // by ipvsadm -S, not by Save
	thirdFlag = regexp.MustCompile(`(?m)^(-A .* -s [sm]h .*?),?flag-3$`) // is forgotten as well
	negative  = regexp.MustCompile(`-f -\d+`)                            // is how ipvsadm -S writes a mark that it does not read again
	help      = regexp.MustCompile(`(?s)ipvsadm v1\.31 .*`)              // is what ipvsadm says of itself, at the end
)

func both(t *testing.T, connections ...ipvsadm.Connection) (*kernel, *machine) {
	t.Helper()
	k, m := newKernel(t, ipvsadm.NewState(), 0), &machine{state: ipvsadm.NewState(), connections: connections}
	k.connections = filepath.Join(t.TempDir(), "ip_vs_conn")
	file, err := os.Create(k.connections)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := ipvsadm.WriteProcConnections(file, slices.Values(connections)); err != nil {
		t.Fatal(err)
	}
	return k, m
}

// seeds is how many cases a test tries: a fifth of n where the race detector slows each process down.
func seeds(n uint64) uint64 {
	if race.Enabled {
		return n / 5
	}
	return n
}

// TestSequencesMatchIpvsadm gives random command lines to usher's reading of ipvsadm and to the real one.
func TestSequencesMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for seed := range seeds(500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGenerator(seed)
			k, m := both(t)
			for range 8 {
				compare(t, r, k, m, "", g.line()...)
			}
			compare(t, r, k, m, "", "-S", "-n")
			if want, got := slices.Collect(k.snapshot().Lines()), slices.Collect(m.state.Lines()); !slices.Equal(got, want) {
				t.Errorf("ipvsadm made %q, usher has %q", want, got)
			}
		})
	}
}

// TestStreamsMatchIpvsadm gives lines to -R.
func TestStreamsMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for seed := range seeds(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGenerator(1000 + seed)
			k, m := both(t)
			if compare(t, r, k, m, g.stream(), "-R") {
				compare(t, r, k, m, "", "-S", "-n")
			}
		})
	}
}

// TestIpvsadmReadsSave feeds what Save writes to the real -R.
func TestIpvsadmReadsSave(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for seed := range seeds(60) {
		g := newGenerator(2000 + seed)
		k, m := both(t)
		for range 40 {
			m.run("", g.line()...)
		}
		var saved strings.Builder
		if err := m.state.Save(&saved, ipvsadm.Names{}); err != nil {
			t.Fatal(err)
		}
		if got := r.run(t, k, saved.String(), "-R"); got != (result{}) {
			t.Errorf("%+v\n%s", got, saved.String())
		}
		var again strings.Builder
		if err := k.snapshot().Save(&again, ipvsadm.Names{}); err != nil {
			t.Fatal(err)
		}
		if again.String() != saved.String() {
			t.Errorf("saved\n%srestored by ipvsadm\n%s", saved.String(), again.String())
		}
	}
}

// TestConnectionsMatchIpvsadm has ipvsadm read usher's /proc/net/ip_vs_conn.
func TestConnectionsMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for name, all := range connectionTables() {
		t.Run(name, func(t *testing.T) {
			k, m := both(t, all...)
			compare(t, r, k, m, "", "-Lnc")
			compare(t, r, k, m, "", "-Lc")
		})
	}
}

func connectionTables() map[string][]ipvsadm.Connection {
	addr := netip.MustParseAddrPort
	ipv4 := []ipvsadm.Connection{
		{Protocol: ipvsadm.TCP, Expires: 898, State: "ESTABLISHED", Client: addr("10.0.0.1:54321"), Virtual: addr("10.96.0.1:443"), Destination: addr("10.244.0.1:6443")},
		{Protocol: ipvsadm.TCP, Expires: 297, State: "NONE", Client: addr("192.168.1.1:0"), Virtual: addr("192.168.100.200:80"), Destination: addr("10.0.0.5:8080")},
		{Protocol: ipvsadm.UDP, Expires: 299, State: "UDP", Client: addr("10.0.0.2:40000"), Virtual: addr("1.1.1.1:53"), Destination: addr("10.244.2.30:53")},
		{Protocol: 0, Expires: 3599, State: "ASSURED", Client: addr("192.168.1.0:0"), Virtual: addr("0.0.0.7:0"), Destination: addr("10.244.3.30:0")},
		{Protocol: ipvsadm.SCTP, Expires: 0, State: "SHUTDOWN_SENT", Client: addr("192.0.2.1:1"), Virtual: addr("10.0.0.2:9"), Destination: addr("10.0.0.6:65535")},
		{Protocol: ipvsadm.TCP, Expires: 7261, State: "TIME_WAIT", Client: addr("255.255.255.255:65535"), Virtual: addr("255.255.255.255:65535"), Destination: addr("255.255.255.255:65535")},
		{Protocol: ipvsadm.TCP, Expires: 2678400, State: "SYN_RECV", Client: addr("1.1.1.1:80"), Virtual: addr("192.0.2.1:80"), Destination: addr("10.0.0.5:80")},
		{Protocol: ipvsadm.TCP, Expires: 59, State: "CLOSE_WAIT", Client: addr("1.1.1.1:21"), Virtual: addr("192.0.2.1:21"), Destination: addr("10.0.0.5:21")},
		{Protocol: ipvsadm.UDP, Expires: 60, State: "UDP", Client: addr("1.1.1.1:123"), Virtual: addr("192.0.2.1:123"), Destination: addr("10.0.0.5:80")},
	}
	ipv6 := []ipvsadm.Connection{
		{Protocol: ipvsadm.TCP, Expires: 900, State: "ESTABLISHED", Client: addr("[2001:db8::6]:54321"), Virtual: addr("[2001:db8::1]:443"), Destination: addr("[2001:db8::6]:80")},
		{Protocol: ipvsadm.TCP, Expires: 10, State: "CLOSE", Client: addr("[2001:db8:1111:2222:3333:4444:5555:6666]:54321"), Virtual: addr("[::1]:443"), Destination: addr("10.0.0.5:80")},
		{Protocol: 0, Expires: 10, State: "NONE", Client: addr("[2001:db8::]:0"), Virtual: addr("[::8]:0"), Destination: addr("[2001:db8::9]:0")},
	}
	sip := []ipvsadm.Connection{
		{Protocol: ipvsadm.UDP, Expires: 299, State: "UDP", Client: addr("10.0.0.2:40000"), Virtual: addr("10.96.0.10:5060"), Destination: addr("10.244.2.30:5060"), Engine: "sip", EngineData: "abc@10.0.0.2"},
		{Protocol: ipvsadm.UDP, Expires: 299, State: "NONE", Client: addr("10.0.0.2:0"), Virtual: addr("10.96.0.10:5060"), Destination: addr("10.244.2.30:5060"), Engine: "sip", EngineData: "0123456789012345678901234567890123456789"},
	}
	return map[string][]ipvsadm.Connection{"none": nil, "IPv4": ipv4, "IPv6": ipv6, "all": slices.Concat(ipv4, ipv6), "sip": sip, "sip last": slices.Concat(ipv4, sip), "sip first": slices.Concat(sip, ipv4)}
}

// TestWordsMatchIpvsadm gives both the command lines that a random generator seldom makes. They run one after another.
func TestWordsMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for _, file := range []string{"options", "values", "listings", "servers"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			k, m := both(t)
			text, err := os.ReadFile(filepath.Join("testdata", file+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				words, err := shell.Fields(line, nil)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, r, k, m, "", words...)
			}
		})
	}
}

// TestStreamsOfAllSortsMatchIpvsadm gives both what -R may find in a file.
func TestStreamsOfAllSortsMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	const one, two = "-A -t 1.2.3.4:80 -s rr", "-A -t 1.2.3.5:80 -s rr"
	for _, stream := range []string{
		"", "\n", "\n\n\n", " \n", one, one + "\n", one + "\n\n" + two, "  " + one + "  \n\t" + two, "-A\t-t\t1.2.3.4:80\n", one + "\r\n",
		"ipvsadm " + one, "/sbin/ipvsadm " + one, "ipvsadm\n" + one, "ipvsadm ipvsadm " + one, "ipvsadm-restore " + one, "./ipvsadm " + one, "\tipvsadm " + one,
		"# a comment\n" + one, "#\n" + one, one + " # two\n" + two, "; " + one, "\"-A\" -t 1.2.3.4:80", "-A -t '1.2.3.4:80'", "-A -t \\\n1.2.3.4:80",
		one + "\n" + one + "\n" + two, one + "\n-A -t 1.2.3.6:80 -s nothing\n" + two, one + "\n-A -t 1.2.3.6\n" + two, one + "\n-q\n" + two, one + "\nword\n" + two,
		one + "\n-A -q\n" + two, one + "\n-a -t 9.9.9.9:9 -r 10.0.0.1:80\n" + two, one + "\n-A -t 1.2.3.6:80 -s\n" + two, one + "\n-A -t 1.2.3.6:80 -p\n" + two,
		one + "\n-L\n" + two, one + "\n-Ln\n-L -n --stats\n" + two, one + "\n-S\n" + two + "\n-S -n\n", one + "\n-R\n" + two, one + "\n-h\n" + two, one + "\n-v\n" + two, one + "\n-C\n" + two,
		one + "\n-D -t 1.2.3.4:80\n" + two, one + "\n-Z\n" + two, "--set 1 2 3\n-L --timeout\n", "--set 1 2\n" + one, one + "\n-L -t 9.9.9.9:9\n" + two, one + "\n-L -c\n" + two,
		one + "\n-D -t 9.9.9.9:9\n-E -t 9.9.9.9:9\n-d -t 1.2.3.4:80 -r 1.2.3.4:80\n-Z -t 9.9.9.9:9\n" + two, "--start-daemon master\n" + one, "--stop-daemon master\n" + one,
		"-A -t " + strings.Repeat("1", 300) + ":80\n" + one, one + strings.Repeat(" ", 5000) + "\n" + two, "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", "-a -t 1.2.3.4:80 -r 10.0.0.1 -w 1 -x 7 -y 5\n",
	} {
		k, m := both(t)
		compare(t, r, k, m, stream, "-R")
		compare(t, r, k, m, "", "-S", "-n")
	}
}
