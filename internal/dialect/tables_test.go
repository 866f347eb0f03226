package dialect

import (
	"fmt"
	"strings"
	"testing"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/proxy"
)

// iptables runs a command, and returns what it prints to stderr.
func (s *Server) iptables(t *testing.T, line string) (stderr string, status int) {
	t.Helper()
	result, err := s.ChangeTables(t.Context(), api.TableChange{Args: strings.Fields(line)})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return result.Stderr, result.Status
}

// must runs a command of iptables that is right.
func (s *Server) must(t *testing.T, line string) {
	t.Helper()
	if stderr, status := s.iptables(t, line); status != 0 {
		t.Fatalf("iptables %s: status %d: %s", line, status, stderr)
	}
}

// saved returns the rules with their counters, without comments.
func (s *Server) saved() string {
	var lines []string
	for line := range strings.Lines(s.Tables().Text) {
		if strings.HasPrefix(line, "[") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// A translation is a service, and a rule of INPUT judges who comes in; each counts, and -Z begins anew.
func TestTablesAreServicesAndRules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at, ip := servers(t, "A"), loopback()
	s.must(t, at.Replace("-t nat -A PREROUTING -d "+ip+"/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination $A"))
	s.must(t, at.Replace("-t nat -A OUTPUT -d "+ip+"/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination $A"))
	if got := ask(t, ip+":8080", 3, false); got != "AAA" {
		t.Fatalf("served by %q", got)
	}
	s.must(t, "-N web")
	s.must(t, "-A INPUT -p tcp -m tcp --dport 8080 -j web")
	s.must(t, "-A web -s 127.0.0.2/32 -j REJECT")
	for from, want := range map[string]string{"127.0.0.2": "", "127.0.0.3": "A"} {
		c, name := dial(t, from, ip+":8080")
		if name != want {
			t.Errorf("a client of %s gets %q, want %q", from, name, want)
		}
		if c != nil {
			c.Close()
		}
	}
	packets := func() string {
		var words []string
		for line := range strings.Lines(s.saved()) {
			n, _, _ := strings.Cut(strings.TrimPrefix(line, "["), ":")
			words = append(words, n)
		}
		return strings.Join(words, " ")
	}
	if got := packets(); got != "2 1 0 4" {
		t.Errorf("rules have counted %s:\n%s", got, s.saved())
	}
	s.must(t, "-Z")
	s.must(t, "-t nat -Z PREROUTING")
	if got := packets(); got != "0 0 0 4" {
		t.Errorf("after -Z rules have counted %s:\n%s", got, s.saved())
	}
	s.must(t, "-F")
	s.must(t, "-X web")
	s.must(t, "-t nat -F")
	if n := len(s.control.Live()); n != 0 || s.saved() != "" {
		t.Errorf("%d services are left, and the rules %s", n, s.saved())
	}
}

// What usher cannot do is refused with the reason, and changes nothing.
func TestRefusedTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	taken := config.NewService("web", config.TCP)
	taken.Listeners = []config.Addr{mustListener(t, loopback()+":8081")}
	taken.OnEmpty = config.EmptyRefuse
	if err := s.control.Add(t.Context(), control.API, taken); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]struct {
		status int
		text   string
	}{
		"-A NOPE -j ACCEPT":                     {1, "iptables: No chain/target/match by that name."},
		"-A INPUT -j NOPE":                      {2, "Chain 'NOPE' does not exist"},
		"-A FORWARD -j ACCEPT":                  {4, "new flows are judged in INPUT"},
		"-t raw -A PREROUTING -p tcp -j ACCEPT": {4, "usher knows all of its flows"},
		"-t mangle -A PREROUTING -j DROP":       {4, "no meaning in table mangle"},
		"-P FORWARD DROP":                       {4, "new flows are judged in INPUT"},
		"-t nat -A PREROUTING -d 192.0.2.1/32 -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:1":                                {4, "cannot assign requested address"},
		fmt.Sprintf("-t nat -A PREROUTING -d %s/32 -p tcp --dport 8081 -j DNAT --to-destination 127.0.0.1:1", taken.Listeners[0].IP): {4, "(service web is of the API)"},
	} {
		if stderr, status := s.iptables(t, line); status != want.status || !strings.Contains(stderr, want.text) {
			t.Errorf("iptables %s: status %d: %s", line, status, stderr)
		}
	}
	if got := s.saved(); got != "" {
		t.Errorf("refused commands have left %s", got)
	}
}

// A restore does what it can and says what it leaves out; a strict one changes nothing then.
func TestARestoreOfTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at, ip := servers(t, "A"), loopback()
	text := at.Replace(`*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -d ` + ip + `/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination $A
-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination $A
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
-A FORWARD -i docker0 -j ACCEPT
-A INPUT -s 127.0.0.2/32 -j REJECT --reject-with icmp-port-unreachable
COMMIT
`)
	restore := func(isStrict bool) api.TableResult {
		result, err := s.ChangeTables(t.Context(), api.TableChange{Restore: true, Text: text, Strict: isStrict})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if r := restore(true); r.Status == 0 || len(s.control.Live()) > 0 {
		t.Errorf("a strict restore has the status %d and leaves %d services: %s", r.Status, len(s.control.Live()), r.Stderr)
	}
	for range 2 { // the same again changes nothing
		r := restore(false)
		for _, want := range []string{"line 9 (filter) is left out", "line 10 (filter) is left out", "192.0.2.1:80 is left out"} {
			if r.Status != 0 || !strings.Contains(r.Stderr, want) {
				t.Errorf("status %d, and nothing of %q: %s", r.Status, want, r.Stderr)
			}
		}
		if got := ask(t, ip+":8080", 2, false); got != "AA" {
			t.Errorf("served by %s", got)
		}
	}
	s.must(t, "-A INPUT -s 127.0.0.3/32 -j DROP") // although there is a service that cannot be had
}

// A firewall mark serves the addresses that rules give it, in either order of the commands.
func TestMarksAreServed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at, one, other := servers(t, "A"), loopback(), loopback()
	mark := func(ip string) string {
		return "-t mangle -A PREROUTING -d " + ip + "/32 -p tcp -m tcp --dport 8080 -j MARK --set-mark 7"
	}
	s.must(t, mark(one))
	change(t, s, at.Replace("-A -f 7 -s rr\n-a -f 7 -r $A -m"))
	s.must(t, mark(other))
	for _, ip := range []string{one, other} {
		if got := ask(t, ip+":8080", 1, false); got != "A" {
			t.Errorf("%s is served by %q", ip, got)
		}
	}
	if v := s.IPVS().Services[0]; v.Mark != 7 || v.Stats.Conns != 2 {
		t.Errorf("the mark is shown as %+v", v)
	}
	s.must(t, "-t mangle -F")
	if n := len(s.control.Live()); n != 0 {
		t.Errorf("%d services are left of a mark without rules", n)
	}
}

// Another image goes on with all that was asked for.
func TestStateIsWhole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at, to, ip := servers(t, "AB"), loopback()+":8080", loopback()
	change(t, s, at.Replace("--set 60 30 20\n-A -t "+to+" -s wrr -p 60\n-a -t "+to+" -r $A -m -w 3 -x 9 -y 4\n-a -t "+to+" -r $B -m"))
	ask(t, to, 2, false)
	await(t, "the end of all flows, so that no figure moves", func() string {
		return unless(s.control.Live()[0].Running.Active() == 0, "some go on")
	})
	change(t, s, "-Z")
	s.must(t, at.Replace("-t nat -A PREROUTING -d "+ip+"/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination $A"))
	s.must(t, "-A INPUT -s 127.0.0.2/32 -j DROP")
	s.must(t, "-P INPUT DROP")
	st := s.State()
	if err := st.Check(); err != nil {
		t.Fatal(err)
	}
	next, err := Restore(s.control, st)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(next.IPVSLines(), next.IPVS(), next.saved()), fmt.Sprint(s.IPVSLines(), s.IPVS(), s.saved()); got != want {
		t.Errorf("after an upgrade there is\n%s, want\n%s", got, want)
	}
	before := make(map[string]*proxy.Service)
	for _, l := range s.control.Live() {
		before[l.Config.Name] = l.Running
	}
	change(t, next, "-A -t "+loopback()+":8080 -s rr")
	next.must(t, "-A INPUT -s 127.0.0.3/32 -j DROP")
	for _, l := range next.control.Live() {
		if was := before[l.Config.Name]; was != nil && was != l.Running {
			t.Errorf("service %s is another one after a change of others", l.Config.Name)
		}
	}
}
