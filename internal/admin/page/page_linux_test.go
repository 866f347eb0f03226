package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"usher/conntrack"
	"usher/internal/api"
	"usher/internal/command"
	"usher/internal/kube"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"usher": func() {
		os.Exit(command.Main(context.Background(), os.Args, os.Stdout, os.Stderr, kube.Command()))
	}})
}

const token = "s3cret"

// usher is a running one, in a process of its own.
type usher struct {
	t      *testing.T
	folder string
	admin  string // address
	cmd    *exec.Cmd
}

// startUsher starts usher with this configuration, and with words behind.
func startUsher(t *testing.T, config string, words ...string) *usher {
	t.Helper()
	u := &usher{t: t, folder: t.TempDir()}
	for name, text := range map[string]string{"usher.yaml": config, "token": token} {
		if err := os.WriteFile(filepath.Join(u.folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An address that nothing else uses, so that the port is free after the end as well.
	pid := os.Getpid()
	u.start(fmt.Sprintf("127.%d.%d.%d:0", 64+len(t.Name())%64, pid>>8%256, pid%256), words...)
	t.Cleanup(u.kill)
	return u
}

func (u *usher) start(admin string, words ...string) {
	u.t.Helper()
	path := filepath.Join(u.folder, "log")
	log, err := os.Create(path)
	if err != nil {
		u.t.Fatal(err)
	}
	defer log.Close()
	u.cmd = exec.Command("usher", slices.Concat([]string{"-c", "usher.yaml", "--admin", admin, "--workers", "1"}, words)...)
	u.cmd.Dir, u.cmd.Stderr = u.folder, log
	u.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+u.folder)
	if err := u.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		if text, _ := os.ReadFile(path); u.t.Failed() {
			u.t.Logf("usher logged:\n%.4000s", text)
		}
	})
	listens := regexp.MustCompile(`"msg":"admin address","listen":"([^"]+)"`)
	eventually(u.t, "usher serves", func() bool {
		text, _ := os.ReadFile(path)
		m := listens.FindSubmatch(text)
		if m == nil || !strings.Contains(string(text), `"serving"`) {
			return false
		}
		u.admin = string(m[1])
		return true
	})
}

// kill ends it. It is dead after a test that has failed, too.
func (u *usher) kill() {
	_ = u.cmd.Process.Kill()
	_ = u.cmd.Wait()
}

// service asks the API for a service.
func (u *usher) service(name string) (s api.Services) {
	u.t.Helper()
	answer, err := http.Get("http://" + u.admin + "/v1/services/" + name)
	if err != nil {
		u.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		u.t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// echo serves clients until the test ends, and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, l)
	return l.Addr().String()
}

func serveEcho(t *testing.T, l net.Listener) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
}

// connect is a client that has got its first bytes back.
func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return c
}

// isCut waits for the end of a connection that nobody writes to.
func isCut(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a flow that was killed: %v", err)
	}
}

// configOf is the configuration of a service with three backends that serve, of one that is down for a reason that looks
// like markup, and of one with 1,000 backends.
func configOf(t *testing.T) string {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("127.9.%d.%d:9", i/250, 1+i%250))
	}
	return fmt.Sprintf(`services:
  web: {listen: "127.0.0.1:0", backends: ["%s", "%s", "%s"], scheduler: rr}
  hostile: {listen: "127.0.0.1:0", backends: ["127.0.0.1:9"], health: 'exec:sh -c "echo \"<img src=x>\" >&2; exit 1",interval=200ms,fall=1'}
  many: {listen: "127.0.0.1:0", backends: ["%s"], health: off}
`, echo(t), echo(t), echo(t), strings.Join(many, `", "`))
}

// row is an expression: the row of a table whose first cell begins with a text.
func row(table, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#%s .row")].find(r => r.firstElementChild.textContent.startsWith(%q))`, table, text)
}

// TestPage has a browser open the page of a real usher and do what an operator does.
func TestPage(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	u := startUsher(t, configOf(t), "--admin-token-file", "token")
	web := u.service("web").Services[0]
	clients := []net.Conn{connect(t, web.Listen[0]), connect(t, web.Listen[0]), connect(t, web.Listen[0])}

	b.look(1280, 800, "light")
	b.open("http://" + u.admin + "/")
	showsLiveFigures(b, clients)
	filtersByKeyboard(b)
	drains(b, u, web.Backends[0].Address)
	killsFlows(b, web, clients)
	isAccessible(b)
	takesPictures(b)
	survivesRestart(b, u)
	survivesUpgrade(b, u)
	asksNobodyElse(b, u)
}

func showsLiveFigures(b *browser, clients []net.Conn) {
	b.until("it is live", `$("state").textContent === "live" && `+row("services", "web"))
	b.until("three backends of three, three flows", row("services", "web")+`.textContent.includes("● up3 of 3rr") && `+row("services", "web")+`.querySelectorAll(".cell")[5].textContent === "3"`)
	b.until("charts are drawn", `document.querySelectorAll("#charts canvas").length === 4`)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for text := make([]byte, 10_000); ; time.Sleep(10 * time.Millisecond) {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := clients[0].Write(text); err != nil {
				return
			}
			if _, err := io.ReadFull(clients[0], text); err != nil {
				return
			}
		}
	})
	b.until("bytes pass", `/[1-9].* kB\/s/.test(`+row("services", "web")+`.textContent) && /[1-9].* [kM]B\/s/.test($("charts").textContent)`)
	close(stop)
	busy.Wait()
	b.until("a reason is text, not markup", `[...document.querySelectorAll("#events .row")].some(r => r.textContent.includes("<img")) || `+row("services", "hostile")+`.textContent.includes("▼ down")`)
	b.eval(`choose("hostile")`)
	b.until("the reason of a backend is seen", row("backends", "127.0.0.1:9")+`?.textContent.includes("<img src=x")`)
	if n := b.eval(`document.querySelectorAll("main img").length`); n != 0.0 {
		b.t.Errorf("a reason became markup: %v images", n)
	}
	b.eval(`choose(null)`)
}

func filtersByKeyboard(b *browser) {
	b.press("/")
	b.typeText("nothing has this name")
	b.until("no service passes", `$("services").hidden && !$("services").nextElementSibling.hidden`)
	b.press("Escape")
	b.typeText("WEB up")
	b.until("one service passes", `$("services-count").textContent === "1 of 3" && document.querySelectorAll("#services .row").length === 1`)
	b.press("Enter") // to the row
	b.until("the row has the focus", `document.activeElement === `+row("services", "web"))
	b.press("Enter") // opens it
	b.until("its backends are seen", `!$("backends-card").hidden && document.querySelectorAll("#backends .row").length === 3`)
	b.press("Escape")
	b.until("they are closed", `$("backends-card").hidden`)
	b.eval(`$("services-filter").value = ""; draw(); choose("many")`)
	b.until("of 1,000 backends those that are seen have rows", `$("backends").getAttribute("aria-rowcount") === "1001" && (n => n > 5 && n < 60)(document.querySelectorAll("#backends .row").length)`)
	b.eval(`backendGrid.focus()`)
	b.press("End")
	b.until("the last one is reached", `document.activeElement.getAttribute("aria-rowindex") === "1001" && document.activeElement.textContent.startsWith("127.9.3.250:9")`)
	b.eval(`choose("web")`)
}

func drains(b *browser, u *usher, address string) {
	button := func(word string) string { return fmt.Sprintf(`[aria-label="%s %s"]`, word, address) }
	status := func() api.Backend { return u.service("web").Services[0].Backends[0] }
	b.click(button("Drain"))
	b.until("it asks for the token", `$("token-dialog").open`)
	b.typeText("wrong")
	b.press("Enter")
	b.until("it asks again", `$("token-dialog").open && $("token-why").textContent.includes("does not know")`)
	if got := status(); got.Status != "up" {
		b.t.Errorf("without the token: %+v", got)
	}
	b.typeText(token)
	b.press("Enter")
	b.until("it drains", row("backends", address)+`.textContent.includes("◌ drain")`)
	if got := status(); got.Status != "drain" || got.Override != "drain" {
		b.t.Errorf("after Drain: %+v", got)
	}
	b.until("it is an event, and is read out", `$("events").textContent.includes("up → drain") && $("announce").textContent !== ""`)
	b.click(button("Maint"))
	b.until("it is in maintenance", row("backends", address)+`.textContent.includes("■ maint")`)
	b.click(button("Resume"))
	b.until("it is up", row("backends", address)+`.textContent.includes("● up")`)
	b.until("the event says that the override ended", `$("events").textContent.includes("override maint taken back")`)
	if got := status(); got.Status != "up" || got.Override != "" {
		b.t.Errorf("after Resume: %+v", got)
	}
	if n := b.eval(`localStorage.length + document.cookie.length`); n != 0.0 {
		b.t.Error("the token is kept beyond the tab")
	}
}

func killsFlows(b *browser, web api.Service, clients []net.Conn) {
	client := clients[1].LocalAddr().String()
	b.eval(`$("flows-card").scrollIntoView()`)
	b.until("the flows of the service are listed", `document.querySelectorAll("#flows .row").length >= 2 && flows.form.service.value === "web"`)
	b.eval(fmt.Sprintf(`flows.filter({client: %q})`, client))
	b.until("one flow passes", `document.querySelectorAll("#flows .row").length === 1 && `+row("flows", client))
	b.click(fmt.Sprintf(`[aria-label="Kill the flow of %s"]`, client))
	b.until("it asks whether that is meant", `$("sure-dialog").open && $("sure-text").textContent.includes("`+client+`")`)
	b.press("Tab") // it begins at Cancel
	b.press("Enter")
	b.until("it dies", `$("notes").textContent.includes("1 flow was killed")`)
	isCut(b.t, clients[1])

	more := []net.Conn{connect(b.t, web.Listen[0]), connect(b.t, web.Listen[0])}
	b.eval(`flows.filter({client: "127.0.0.0/8", service: "web", backend: ""})`)
	b.until("they are listed", row("flows", more[0].LocalAddr().String()))
	b.click("#kill-all")
	b.until("it asks", `$("sure-dialog").open && $("sure-text").textContent.includes("client 127.0.0.0/8, service web")`)
	b.press("Tab")
	b.press("Enter")
	for _, c := range more {
		isCut(b.t, c)
	}
	b.until("the table is empty", `$("flows").hidden`)
	b.eval(`flows.filter({client: ""}, false)`)
}

// isAccessible walks through the page by Tab, and through the tree that readers of the screen get.
func isAccessible(b *browser) {
	b.eval(`scrollTo(0, 0); document.querySelector(".skip").focus()`)
	var stops []string
	for range 60 {
		b.press("Tab")
		at, _ := b.eval(`(e => e === document.body ? "" : [e.closest("section")?.getAttribute("aria-labelledby") ?? e.closest("header,footer,[role=log]")?.tagName, e.id || e.name || e.className || e.textContent.slice(0, 20)].join(" "))(document.activeElement)`).(string)
		if at == "" || len(stops) > 0 && at == stops[0] {
			break
		}
		stops = append(stops, at)
	}
	b.t.Logf("Tab goes to %q", stops)
	last := -1
	for _, want := range []string{"services-title services-filter", "services-title row", "backends-title backends-filter", "backends-title row", "flows-title match", "flows-title client", "flows-title kill-all", "events-title events-filter"} {
		at := slices.Index(stops, want)
		if at <= last {
			b.t.Errorf("Tab reaches %q at %d, in %q", want, at, stops)
		}
		last = at
	}
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	b.do("Accessibility.getFullAXTree", nil, &tree)
	seen := make(map[string]int)
	for _, n := range tree.Nodes {
		role, _ := n.Role.Value.(string)
		name, _ := n.Name.Value.(string)
		if n.Ignored || !slices.Contains([]string{"button", "searchbox", "textbox", "combobox", "grid", "columnheader", "row", "gridcell", "region", "link", "dialog", "heading"}, role) {
			continue
		}
		if seen[role]++; name == "" && role != "gridcell" && role != "row" { // a cell may be empty; a row is named by its cells
			b.t.Errorf("a %s has no name", role)
		}
	}
	b.t.Logf("named: %v", seen)
	for _, role := range []string{"grid", "columnheader", "row", "gridcell", "button", "region"} {
		if seen[role] == 0 {
			b.t.Errorf("there is no %s", role)
		}
	}
}

func takesPictures(b *browser) {
	for _, service := range []string{"web", "many"} {
		b.eval(fmt.Sprintf("choose(%q); scrollTo(0, 0)", service))
		for _, size := range [][2]int{{1280, 800}, {768, 1024}, {360, 740}} {
			for _, scheme := range []string{"light", "dark"} {
				b.look(size[0], size[1], scheme)
				if over := b.eval(`document.documentElement.scrollWidth - innerWidth`); over != 0.0 {
					b.t.Errorf("%d wide: it goes %v beyond the screen", size[0], over)
				}
				if cut := b.eval(`[...document.querySelectorAll(".row .number")].filter(c => c.checkVisibility() && c.scrollWidth > c.clientWidth).map(c => c.textContent).join()`); cut != "" {
					b.t.Errorf("%d wide: figures are cut: %v", size[0], cut)
				}
				b.picture(fmt.Sprintf("%s-%dx%d-%s", service, size[0], size[1], scheme))
			}
		}
	}
	b.look(1280, 800, "light")
}

func survivesRestart(b *browser, u *usher) {
	_ = u.cmd.Process.Signal(syscall.SIGTERM)
	if err := u.cmd.Wait(); err != nil {
		b.t.Error(err)
	}
	b.until("it says that nobody answers", `$("state").textContent.startsWith("no answer; all below is as of") && document.querySelector("main.stale")`)
	u.start(u.admin, "--admin-token-file", "token")
	b.until("it is live again", `$("state").textContent === "live" && !document.querySelector("main.stale")`)
	b.until("it tells of the restart", `$("events").textContent.includes("restarted")`)
}

func survivesUpgrade(b *browser, u *usher) {
	_ = u.cmd.Process.Signal(syscall.SIGUSR2)
	b.until("it tells of the upgrade", `$("events").textContent.includes("upgraded") && $("state").textContent === "live"`)
}

// asksNobodyElse checks that there was no error, and no request to another host.
func asksNobodyElse(b *browser, u *usher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) > 0 {
		b.t.Errorf("the console has %q", b.errors)
	}
	for _, text := range b.refused {
		// Those are of the token, of the time without an usher, and of the streams that it cut.
		if !strings.Contains(text, "401") && !strings.Contains(text, "net::ERR_") {
			b.t.Errorf("refused: %s", text)
		}
	}
	for _, url := range b.requests {
		if !strings.HasPrefix(url, "http://"+u.admin+"/") && !strings.HasPrefix(url, "data:") && url != "about:blank" {
			b.t.Errorf("it asks for %s", url)
		}
	}
}

// TestManyBackends: of 1,000 backends that change each second, the page touches only the rows that are seen.
func TestManyBackends(t *testing.T) {
	t.Parallel()
	const backends, flows = 1000, 400
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	serveEcho(t, l)
	var all []string
	for i := range backends {
		all = append(all, fmt.Sprintf("127.8.%d.%d:%s", i/250, 1+i%250, port))
	}
	u := startUsher(t, fmt.Sprintf(`services: {many: {listen: "127.0.0.1:0", backends: ["%s"], scheduler: rr, health: off}}`, strings.Join(all, `", "`)))
	address := u.service("many").Services[0].Listen[0]
	var clients []net.Conn
	for range flows {
		clients = append(clients, connect(t, address))
	}
	b := startBrowser(t)
	b.look(1280, 800, "light")
	b.open("http://" + u.admin + "/#service=many")
	b.until("it is live", `$("state").textContent === "live" && document.querySelectorAll("#backends .row").length > 5`)
	b.eval(`{
		window.seen = {changes: 0, snapshots: 0, longest: 0};
		new MutationObserver(all => { seen.changes += all.length }).observe($("backends"), {subtree: true, childList: true, characterData: true, attributes: true});
		new PerformanceObserver(all => { for (const e of all.getEntries()) seen.longest = Math.max(seen.longest, e.duration) }).observe({type: "longtask"});
		const take = model.take.bind(model);
		model.take = (...words) => { seen.snapshots++; return take(...words) };
	}`)
	before := b.cpu()
	for b.eval(`seen.snapshots`).(float64) < 5 {
		for _, c := range clients {
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.until("most backends with flows have a rate", fmt.Sprintf(`model.services.get("many").list.filter(b => b.data.bytes_up > 5).length >= %d`, flows))
	seen := b.eval(`seen`).(map[string]any)
	t.Logf("snapshots: %v; changes of the document: %v; CPU of the page's thread: %.0f ms; the longest task took %v ms on this machine's clock",
		seen["snapshots"], seen["changes"], 1000*(b.cpu()-before), seen["longest"])
	if rows := b.eval(`document.querySelectorAll("#backends .row").length`).(float64); rows > 60 || seen["changes"].(float64) > seen["snapshots"].(float64)*rows*30 {
		t.Errorf("%v rows, and of them %v changes", rows, seen["changes"])
	}
	for _, scheme := range []string{"light", "dark"} {
		b.look(1280, 800, scheme)
		b.picture("busy-" + scheme)
	}
}

// TestReadOnly: without a token file the page says so, and asks for no change.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	u := startUsher(t, fmt.Sprintf(`services: {web: {listen: "127.0.0.1:0", backends: ["%s"]}}`, echo(t)))
	b.open("http://" + u.admin + "/#service=web")
	b.until("it is live, and says what changes need", `$("state").textContent === "live" && $("facts").textContent.includes("need --admin-token-file")`)
	b.click(`#backends .row [data-admin=drain]`)
	b.until("it says what to do", `$("notes").textContent.includes("--admin-token-file FILE")`)
	asksNobodyElse(b, u)
	if len(b.refused) > 0 {
		t.Errorf("it has asked for a change: %q", b.refused)
	}
}

// The page offers every state that a flow can have.
func TestStates(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range conntrack.StateNames() {
		if !strings.Contains(string(text), "<option>"+name+"</option>") {
			t.Errorf("index.html has no state %s", name)
		}
	}
}
