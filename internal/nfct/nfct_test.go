package nfct

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func tuple(src, dst string) Tuple {
	return Tuple{netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)}
}

// flows are those that the real program has printed the goldens of.
func flows() map[string]Flow {
	return map[string]Flow{
		"dnat": {
			Protocol: TCP, State: "ESTABLISHED", Timeout: 431999, SeenReply: true, Assured: true, ID: 477963149,
			Original: tuple("10.9.9.1:45716", "10.9.9.9:80"), Reply: tuple("127.0.0.1:8080", "10.9.9.1:45716"),
			Packets: [2]uint64{2, 1}, Bytes: [2]uint64{112, 60},
		},
		"udp": {
			Protocol: UDP, Timeout: 29, Packets: [2]uint64{1, 0}, Bytes: [2]uint64{29, 0}, ID: 814590380,
			Original: tuple("127.0.0.1:39827", "127.0.0.1:5353"), Reply: tuple("127.0.0.1:5353", "127.0.0.1:39827"),
		},
		"six": {
			Protocol: TCP, State: "FIN_WAIT", Timeout: 120, SeenReply: true, Assured: true,
			Original: tuple("[::1]:57394", "[::1]:8081"), Reply: tuple("[::1]:8081", "[::1]:57394"),
			Packets: [2]uint64{2, 1}, Bytes: [2]uint64{152, 80},
		},
	}
}

// TestFormats: lines are those of the real program, byte for byte.
func TestFormats(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 6, 34, 50, 231884999, time.UTC)
	all := flows()
	line := func(name string, o Output, e Event) string {
		f := all[name]
		return string(f.AppendLine(nil, o, e, at))
	}
	xml := func(name string, o Output, e Event) string {
		f := all[name]
		return string(f.AppendXML(nil, o, e, at))
	}
	save := func(name string, e Event) string {
		f := all[name]
		return string(f.AppendSave(nil, e))
	}
	proc := func(name string) string {
		f := all[name]
		return string(f.AppendProc(nil))
	}
	dnat, udp := "src=10.9.9.1 dst=10.9.9.9 sport=45716 dport=80 ", "src=127.0.0.1 dst=127.0.0.1 sport=39827 dport=5353 "
	dnatReply, udpReply := "src=127.0.0.1 dst=10.9.9.1 sport=8080 dport=45716 ", "src=127.0.0.1 dst=127.0.0.1 sport=5353 dport=39827"
	for _, c := range []struct{ got, want string }{
		{proc("dnat"), "ipv4     2 tcp      6 431999 ESTABLISHED " + dnat + "packets=2 bytes=112 " + dnatReply + "packets=1 bytes=60 [ASSURED] mark=0 zone=0 use=2\n"},
		{proc("udp"), "ipv4     2 udp      17 29 " + udp + "packets=1 bytes=29 [UNREPLIED] " + udpReply + " packets=0 bytes=0 mark=0 zone=0 use=2\n"},
		{line("dnat", Output{}, NoEvent), "tcp      6 431999 ESTABLISHED " + dnat + "packets=2 bytes=112 " + dnatReply + "packets=1 bytes=60 [ASSURED] mark=0 use=1"},
		{line("udp", Output{Extended: true, ID: true}, NoEvent), "ipv4     2 udp      17 29 " + udp + "packets=1 bytes=29 [UNREPLIED] " + udpReply + " packets=0 bytes=0 mark=0 use=1 id=814590380"},
		{line("udp", Output{Timestamp: true}, New), "[1796020490.231884]\t    [NEW] udp      17 29 " + udp + "[UNREPLIED] " + udpReply},
		{line("six", Output{}, Update), " [UPDATE] tcp      6 120 FIN_WAIT src=::1 dst=::1 sport=57394 dport=8081 src=::1 dst=::1 sport=8081 dport=57394 [ASSURED]"},
		{line("six", Output{Extended: true}, Destroy), "[DESTROY] ipv6     10 tcp      6 120 FIN_WAIT src=::1 dst=::1 sport=57394 dport=8081 packets=2 bytes=152 src=::1 dst=::1 sport=8081 dport=57394 packets=1 bytes=80 [ASSURED]"},
		{save("dnat", NoEvent), "-A -t 431999 -u SEEN_REPLY,ASSURED -s 10.9.9.1 -d 10.9.9.9 -g 127.0.0.1 -q 10.9.9.1 -p tcp --sport 45716 --dport 80 --reply-port-src 8080 --reply-port-dst 45716 --state ESTABLISHED"},
		{save("udp", New), "-A -t 29 -u UNSET -s 127.0.0.1 -d 127.0.0.1 -r 127.0.0.1 -q 127.0.0.1 -p udp --sport 39827 --dport 5353 --reply-port-src 5353 --reply-port-dst 39827"},
		{save("six", Update), "-U -t 120 -u SEEN_REPLY,ASSURED -s ::1 -d ::1 -r ::1 -q ::1 -p tcp --sport 57394 --dport 8081 --reply-port-src 8081 --reply-port-dst 57394 --state FIN_WAIT"},
		{xml("udp", Output{}, NoEvent), `<flow><meta direction="original"><layer3 protonum="2" protoname="ipv4"><src>127.0.0.1</src><dst>127.0.0.1</dst></layer3><layer4 protonum="17" protoname="udp"><sport>39827</sport><dport>5353</dport></layer4><counters><packets>1</packets><bytes>29</bytes></counters></meta><meta direction="reply"><layer3 protonum="2" protoname="ipv4"><src>127.0.0.1</src><dst>127.0.0.1</dst></layer3><layer4 protonum="17" protoname="udp"><sport>5353</sport><dport>39827</dport></layer4><counters><packets>0</packets><bytes>0</bytes></counters></meta><meta direction="independent"><timeout>29</timeout><mark>0</mark><use>1</use><id>814590380</id><unreplied/></meta></flow>`},
		{xml("six", Output{Timestamp: true}, New), `<flow type="new"><meta direction="original"><layer3 protonum="10" protoname="ipv6"><src>::1</src><dst>::1</dst></layer3><layer4 protonum="6" protoname="tcp"><sport>57394</sport><dport>8081</dport></layer4></meta><meta direction="reply"><layer3 protonum="10" protoname="ipv6"><src>::1</src><dst>::1</dst></layer3><layer4 protonum="6" protoname="tcp"><sport>8081</sport><dport>57394</dport></layer4></meta><meta direction="independent"><state>FIN_WAIT</state><timeout>120</timeout><id>0</id><assured/></meta><when><hour>6</hour><min>34</min><sec>50</sec><wday>2</wday><day>30</day><month>11</month><year>2026</year></when></flow>`},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestFilters: which of the flows pass.
func TestFilters(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"":                                 "dnat six udp",
		"-p tcp":                           "dnat six",
		"-p UDP":                           "udp",
		"-p 17":                            "udp",
		"-p icmp":                          "",
		"-p 0":                             "",
		"-f ipv4":                          "dnat udp",
		"-f ipv6":                          "six",
		"-s 10.9.9.77/24":                  "dnat",
		"-s 10.9.9.1 -d 10.9.9.9":          "dnat",
		"--orig-src ::1":                   "six",
		"-s 127.0.0.0/":                    "dnat udp",
		"-s 10.1.1.1 --mask-src 255.0.0.0": "dnat",
		"-r 127.0.0.1":                     "dnat udp",
		"-q 10.9.9.1":                      "dnat",
		"-p tcp --dport 80":                "dnat",
		"-p tcp --dport=80 --sport 1":      "",
		"-p udp --reply-port-src 5353":     "udp",
		"-ptcp --state FIN_WAIT":           "six",
		"-g":                               "dnat",
		"-g 127.0.0.1:8080":                "dnat",
		"-g 127.0.0.1:80":                  "",
		"-j":                               "dnat",
		"-n":                               "",
		"-u assured":                       "dnat six",
		"-u UNREPLIED":                     "udp",
		"-u SEEN_REPLY,ASSURED":            "dnat six",
		"-u OFFLOAD":                       "",
		"-m 0":                             "dnat six udp",
		"-m 0/1":                           "dnat six udp",
		"-m 0x1":                           "",
		"--zone 0":                         "dnat six udp",
		"-w 1":                             "",
	} {
		r, err := Parse(append([]string{"-L"}, strings.Fields(words)...))
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		var have []string
		all := flows()
		for _, name := range []string{"dnat", "six", "udp"} {
			if f := all[name]; r.Match(&f) {
				have = append(have, name)
			}
		}
		if got := strings.Join(have, " "); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
}

// real returns a function that runs the real program where it can have a connection table of its own.
func real(t *testing.T) func(words ...string) (status int, stdout, stderr string) {
	t.Helper()
	if _, err := exec.LookPath("conntrack"); err != nil {
		t.Skip("conntrack is not installed")
	}
	run := func(words ...string) (int, string, string) {
		var out, errOut strings.Builder
		cmd := exec.Command("unshare", append([]string{"-n", "conntrack"}, words...)...)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
	}
	if status, out, errOut := run("-C"); status != OK || out != "0\n" {
		t.Skipf("conntrack has no table of its own here: %s", errOut)
	}
	if _, out, _ := run("-V"); out != Prefix+"\n" {
		t.Skipf("the conntrack here is %s", out)
	}
	return run
}

// mistakes are lines that conntrack refuses, each as usher does.
var mistakes = strings.Split(`-X
--bogus
-L --bogus
-L -D
-L -L
-L -h
-V -L
-L foo
-C foo
-V foo
-h tcp
-E foo
-L -p
-L --protonum
-L --src
-L --mark
-L -p tcp --state
-L -p foo
-L -p 300
-L -p all
-L -p unknown
-D -p unknown
-L -f foo
-L -f IPV6
-L -s foo
-L -s /8
-L -s 10.0.0.0/33
-L -s 10.0.0.0/255.0.0.0
-L -s 1.2.3.4 -d ::1
-L -f ipv6 -s 1.2.3.4
-L -r 10.0.0.0/8
-L -q 10.0.0.0/8
-L -g 10.0.0.0/8
-L -g foo
-L -g 1.2.3.4:99999
-L -g -j
-L --dport 80
-L --dport 80 -p tcp
-L -p udp --state ESTABLISHED
-L -p tcp --state established
-L -p tcp --state FOO
-L -p tcp --s 5
-L -u foo
-L -u UNSET
-L -o foo
-L -o extended,
-L -o save,extended
-L -e NEW
-L -b 5
-L -t 5
-L --mask-src 255.0.0.0
-L -s 1.2.3.4 --mask-src x
-L --zero=5
-C -s 1.2.3.4
-C -f ipv6
-S -o xml
-F -p udp
-D -z
-D -j
-D -e NEW
-E -e foo
-E -e NEW,FOO
-E -u ASSURED
-E -p tcp --bogus
-E expect -e NEW
-D dying
-F unconfirmed
-G
-G -s 1.2.3.4
-G -p tcp
-G -p tcp -s 1.2.3.4
-G -p tcp -s 1.2.3.4 -d 1.2.3.4
-G -p tcp -s 1.2.3.4 -d 1.2.3.4 --sport 1
-G -p tcp -s 1.2.3.0/24 -d 1.2.3.4 --sport 1 --dport 1
-G -p tcp -s 1.2.3.4 -d 1.2.3.4 --sport 1 --dport 1 -f ipv4
-G -p tcp -s 1.2.3.4 -d 1.2.3.4 --sport 1 --dport 1 -u ASSURED`, "\n")

// TestMistakes: what the real program refuses is refused in the same words, with the same status.
func TestMistakes(t *testing.T) {
	t.Parallel()
	run := real(t)
	for _, line := range mistakes {
		words := strings.Fields(line)
		status, _, stderr := run(words...)
		_, err := Parse(words)
		wrong, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s: %v, want status %d, %s", line, err, status, stderr)
		} else if got := fmt.Sprint(wrong.Status, wrong.Message()); got != fmt.Sprint(status, stderr) {
			t.Errorf("%s: %s\nwant %d%s", line, got, status, stderr)
		}
	}
}

// TestAccepted: what the real program takes is taken.
func TestAccepted(t *testing.T) {
	t.Parallel()
	run := real(t)
	for _, line := range []string{
		"-L", "--dump", "conntrack -L", "-L conntrack", "-L -- foo", "-L dying", "-L unconfirmed", "-L expect", "-L expect foo",
		"-Lptcp", "-L --pro tcp", "-L --fam ipv4", "-L --orig-s 1.1.1.1", "-L -p tcp --dp 80", "-L -s 1.1.1.1 -s 2.2.2.2", "-L -p tcp -p udp",
		"-L -m foo", "-L -m 0/", "-L -w foo", "-L -p tcp --dport foo", "-L -o XML", "-L -n -g", "-L -n 1.2.3.4 -g 4.5.6.7", "-L -g [::1]:5",
		"-C", "--count", "-C expect", "-F", "-F expect", "-F -f ipv4", "-V", "--version",
	} {
		words := strings.Fields(line)
		if status, _, stderr := run(words...); status != OK {
			t.Errorf("%s: the real one fails: %s", line, stderr)
		}
		if _, err := Parse(words); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestRefused: what usher cannot do says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-I -p tcp": "begins with its client", "-A": "begins with its client", "-U -m 3": "begins with its client", "-R file": "begins with its client",
		"-D -t 5": "begins with its client", "-L -z": "never go back", "-L -l x": "labels", "-L -c 1": "security context",
		"-L -o labels": "no output labels", "-L -o xml,json": "one of them", "-D expect": "expects no connections", "-L -s 1.2.3.4 --mask-src 255.0.0.1": "ones come first",
	} {
		if _, err := Parse(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range mistakes {
		f.Add(line)
	}
	f.Add("-L -p tcp --dport 80 -g [::1]:5 -j 1.2.3.4:5 --mask-src ffff:: -s ::1/0")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := Parse(strings.Fields(line))
		if (r == nil) != (err != nil) {
			t.Fatal(r, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%T", err)
			}
			return
		}
		for _, flow := range flows() {
			r.Match(&flow)
		}
	})
}
