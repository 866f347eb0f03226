package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/flags"
)

// TestMain gives the control sockets of all tests a folder of their own.
func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "usher")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_RUNTIME_DIR", folder)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		os.RemoveAll(folder)
		os.Exit(status)
	}))
}

// parse makes the config of a command line that is right.
func parse(t *testing.T, w flags.Words) *config.Config {
	t.Helper()
	// Ushers of one process would contend for the socket that has its PID for a name.
	w.Options = append([]flags.Option{{Name: "control", Value: "off"}}, w.Options...)
	c, err := flags.Parse(w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startOf is what a command line begins with.
func startOf(c *config.Config) Start {
	s := Start{Services: c.Services}
	p := config.DefaultProcess()
	for _, f := range p.Diff(&c.Process) {
		s.Options = append(s.Options, configfile.Option{Name: f, Value: c.Process.Text(f)})
	}
	return s
}

// book answers look-ups.
type book map[string][]netip.Addr

func (b book) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addrs, ok := b[host]; ok {
		return slices.Clone(addrs), nil
	}
	return nil, errors.New("lookup " + host + ": no such host")
}

func (book) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no SRV records here")
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the log matches and returns the last group.
func (l *lines) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("never logged %s:\n%s", pattern, l)
	return ""
}

func TestRun(t *testing.T) {
	t.Parallel()
	backend := greeter(t)
	for _, engine := range []string{"auto", "portable"} {
		c := parse(t, flags.Words{
			Listen:  []string{"127.0.0.1:0"},
			Backend: []string{backend},
			Options: []flags.Option{{Name: "engine", Value: engine}, {Name: "drain-timeout", Value: "5s"}, {Name: "log-format", Value: "json"}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var log lines
		result := make(chan error, 1)
		go func() { result <- Run(ctx, startOf(c), Env{Stdout: io.Discard, Stderr: &log}) }()
		log.await(t, `"msg":"serving"`)
		address := log.await(t, `"listen":\["([^"]+)"\]`)
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != "hello" {
			t.Errorf("%s: got %q, %v", engine, got, err)
		}
		conn.Close()
		cancel()
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("%s: %v", engine, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: Run goes on after its context:\n%s", engine, &log)
		}
		if !strings.Contains(log.String(), `"msg":"stopped"`) {
			t.Errorf("%s: log:\n%s", engine, &log)
		}
	}
}

func TestLogFormats(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"":     `^\{"level":"info","time":"\d{4}-\d\d-\d\dT[^"]+","msg":"hello","service":"web","list":\["a","b c"\],"took":0.0015,"n":3,"ms":1000000.5,"error":"no \\"x\\""\}\n$`,
		"json": `^\{"level":"info","time":"\d{4}-\d\d-\d\dT[^"]+","msg":"hello",`,
		"console": `^\d\d:\d\d:\d\d\.\d{3} info hello service=web list="a,b c" took=1.5ms n=3 ms=1000000.5 error="no \\"x\\""\n` +
			`\d\d:\d\d:\d\d\.\d{3} warn "two\\nlines" empty=""\n$`,
	} {
		var log lines
		logger, out := openLog(config.Process{LogFormat: format, LogLevel: "info"}, &log)
		logger.Debug("unheard")
		logger.With(zap.String("service", "web")).Info("hello", zap.Strings("list", []string{"a", "b c"}),
			zap.Duration("took", 1500*time.Microsecond), zap.Int("n", 3), zap.Float64("ms", 1000000.5), zap.Error(errors.New(`no "x"`)), zap.Skip())
		if format == "console" {
			logger.Warn("two\nlines", zap.String("empty", ""))
		}
		out.close()
		if !regexp.MustCompile(want).MatchString(log.String()) {
			t.Errorf("format %q: %s", format, &log)
		}
	}
}
