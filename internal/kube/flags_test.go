package kube

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"usher/internal/command"
	"usher/internal/flags"
)

// TestDeployment: what runs in the cluster has all words of the command line, and fits them.
func TestDeployment(t *testing.T) {
	t.Parallel()
	type values = map[string]string
	for name, c := range map[string]struct {
		words   command.SourceWords
		args    string
		healthz string // port; default: 10256
		drain   time.Duration
		err     string
	}{
		"by default": {},
		"own words": {words: command.SourceWords{Values: values{"assign-lb": "127.10.0.0/16", "external-ips": "true", "image": "x"}},
			args: "--external-ips --assign-lb=127.10.0.0/16"},
		"options of services, and of the process": {words: command.SourceWords{
			Options: []flags.Option{{Name: "scheduler", Value: "lc"}},
			Process: []flags.Option{{Name: "log-level", Value: "debug"}, {Name: "rule", Value: "-j DROP"}}},
			args: "--scheduler=lc --log-level=debug --rule=-j DROP"},
		"longer flows": {words: command.SourceWords{Process: []flags.Option{{Name: "drain-timeout", Value: "5m"}}},
			args: "--drain-timeout=5m", drain: 5 * time.Minute},
		"another port of health": {words: command.SourceWords{Values: values{"healthz-bind-address": "[::1]:1234"}},
			args: "--healthz-bind-address=[::1]:1234", healthz: "1234"},
		"no health": {words: command.SourceWords{Values: values{"healthz-bind-address": "off"}},
			args: "--healthz-bind-address=off", healthz: "none"},
		"wrong words":                {words: command.SourceWords{Values: values{"cluster-ips": "bnd"}}, err: `did you mean "bind"?`},
		"another source":             {words: command.SourceWords{Values: values{"manifests": "m"}}, err: "--manifests is not for a pod"},
		"a file of services":         {words: command.SourceWords{File: "usher.yaml"}, err: "--config names a file of this machine"},
		"a file of the process":      {words: command.SourceWords{Process: []flags.Option{{Name: "admin-token-file", Value: "f"}}}, err: "--admin-token-file is about a file of this machine"},
		"more flows than there are":  {words: command.SourceWords{Options: []flags.Option{{Name: "reserve", Value: "1"}}}, err: "--reserve is not for kube"},
		"a time that cannot be read": {words: command.SourceWords{Process: []flags.Option{{Name: "drain-timeout", Value: "x"}}}, err: "drain-timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := deployment(c.words)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			healthz := strings.TrimPrefix(cmp.Or(c.healthz, "10256"), "none")
			drain := cmp.Or(c.drain, 30*time.Second)
			if err != nil || strings.Join(got.Args, " ") != c.args || got.HealthzPort != healthz || got.Drain != drain {
				t.Errorf("got %+v, %v; want %q, port %q, %v", got, err, c.args, healthz, drain)
			}
		})
	}
}
