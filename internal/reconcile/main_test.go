package reconcile

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/internal/flags"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// parse makes the first service of a mapping, with options as NAME=VALUE.
func parse(t *testing.T, mapping string, options ...string) *config.Service {
	t.Helper()
	words := flags.Words{Mappings: []string{mapping}}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		words.Options = append(words.Options, flags.Option{Name: name, Value: value})
	}
	c, err := flags.Parse(words)
	if err != nil {
		t.Fatal(err)
	}
	return c.Services[0]
}

func recordsOf(host string, addrs ...netip.Addr) []discovery.Record {
	var records []discovery.Record
	for _, a := range addrs {
		records = append(records, discovery.Record{Host: host, Addr: a})
	}
	return records
}
