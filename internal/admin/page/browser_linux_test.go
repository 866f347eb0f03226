package page_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// browser is a headless Chromium with one tab. It speaks the DevTools protocol over two pipes, as messages of JSON with a
// zero byte between them; so no port and no websocket is needed. https://chromedevtools.github.io/devtools-protocol/
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	ended   chan struct{} // closed when it says nothing more

	mu       sync.Mutex
	last     int
	answers  map[int]chan message
	requests []string // URLs that the tab has asked for
	errors   []string // that scripts threw or logged
	refused  []string // requests that failed, with their status
}

// message is an answer or an event of the protocol, or a request.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

type object map[string]any

// startBrowser starts a browser, which ends with the test. The page is ours, so it needs no sandbox, which root has not.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium")
	}
	home := t.TempDir()
	theirEnd, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirOther, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--force-color-profile=srgb", "--user-data-dir="+home)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.ExtraFiles = []*os.File{theirEnd, theirOther} // 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	theirEnd.Close()
	theirOther.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: to, answers: make(map[int]chan message), ended: make(chan struct{})}
	go b.read(from)
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it and its children
		_ = cmd.Wait()
		<-b.ended
		to.Close()
	})
	var target struct{ TargetID, SessionID string }
	b.do("Target.createTarget", object{"url": "about:blank"}, &target)
	b.do("Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.do("Performance.enable", object{"timeDomain": "threadTicks"}, nil)
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Accessibility"} {
		b.do(domain+".enable", nil, nil)
	}
	return b
}

// read takes what the browser says until it ends.
func (b *browser) read(from *os.File) {
	defer close(b.ended)
	defer from.Close()
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		if to := b.answers[m.ID]; m.ID > 0 && to != nil {
			to <- m
			delete(b.answers, m.ID)
		} else {
			b.note(m.Method, m.Params)
		}
		b.mu.Unlock()
	}
}

// note keeps what an event tells of errors and requests.
func (b *browser) note(method string, params json.RawMessage) {
	var p struct {
		Type    string
		Request struct{ URL string }
		Entry   struct{ Source, Level, Text, URL string }
		Args    []struct{ Value any }
		Details struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	switch {
	case method == "Network.requestWillBeSent":
		b.requests = append(b.requests, p.Request.URL)
	case method == "Runtime.exceptionThrown":
		b.errors = append(b.errors, p.Details.Text+" "+p.Details.Exception.Description)
	case method == "Runtime.consoleAPICalled":
		b.errors = append(b.errors, fmt.Sprint(p.Type, p.Args))
	case method == "Log.entryAdded" && p.Entry.Source == "network":
		b.refused = append(b.refused, p.Entry.Text+" "+p.Entry.URL)
	case method == "Log.entryAdded":
		b.errors = append(b.errors, p.Entry.Level+" "+p.Entry.Text)
	}
}

// do has the browser do something, and decodes its answer.
func (b *browser) do(method string, params, result any) {
	b.t.Helper()
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	request := message{ID: b.last, Session: b.session, Method: method}
	b.answers[b.last] = answer
	b.mu.Unlock()
	if params != nil {
		request.Params, _ = json.Marshal(params)
	}
	text, err := json.Marshal(request)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result == nil {
			return
		}
		if err := json.Unmarshal(m.Result, result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	case <-b.ended:
		b.t.Fatalf("%s: the browser has ended", method)
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
}

// open goes to a URL.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do("Page.navigate", object{"url": url}, nil)
	b.until("the page is loaded", `document.readyState === "complete" && location.href !== "about:blank"`)
}

// eval returns the value of an expression in the page.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	b.do("Runtime.evaluate", object{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &got)
	if e := got.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s", expression, e.Exception.Description)
	}
	return got.Result.Value
}

// until waits until an expression is true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); b.eval("Boolean("+expression+")") != true; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never: %s\n%s\nerrors %q, refused %q\n%v", what, expression, b.errors, b.refused, b.eval(`document.body.innerText.replaceAll("\n", " ")`))
		}
	}
}

// press presses a key, such as Tab, Enter, ArrowDown or a letter.
func (b *browser) press(key string) {
	b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36}
	down := object{"type": "keyDown", "key": key, "windowsVirtualKeyCode": codes[key]}
	switch {
	case key == "Enter":
		down["text"] = "\r"
	case codes[key] == 0:
		down["text"] = key
	}
	b.do("Input.dispatchKeyEvent", down, nil)
	b.do("Input.dispatchKeyEvent", object{"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}, nil)
}

// typeText types a text where the focus is.
func (b *browser) typeText(text string) {
	b.t.Helper()
	b.do("Input.insertText", object{"text": text}, nil)
}

// click clicks at the middle of the first element of a selector.
func (b *browser) click(selector string) {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	b.until("seen: "+selector, fmt.Sprintf(`(e => { e?.scrollIntoView({block: "center"}); return e && e.checkVisibility() })(document.querySelector(%s))`, quoted))
	at := b.eval(fmt.Sprintf(`(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector(%s).getBoundingClientRect())`, quoted)).([]any)
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		b.do("Input.dispatchMouseEvent", object{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
	b.do("Input.dispatchMouseEvent", object{"type": "mouseMoved", "x": 1, "y": 1}, nil)
}

// look sets the size of the window and the colour scheme.
func (b *browser) look(width, height int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", object{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.do("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
}

// cpu returns the CPU time that the thread of the page has used, in seconds.
func (b *browser) cpu() float64 {
	b.t.Helper()
	var got struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	b.do("Performance.getMetrics", nil, &got)
	for _, m := range got.Metrics {
		if m.Name == "TaskDuration" {
			return m.Value
		}
	}
	b.t.Fatal("the browser does not tell its CPU time")
	return 0
}

// picture writes what is seen to a file of the artefacts, for a person to look at: go test -artifacts keeps them.
func (b *browser) picture(name string) {
	b.t.Helper()
	var shot struct{ Data string }
	b.do("Page.captureScreenshot", object{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
