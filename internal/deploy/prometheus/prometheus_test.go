package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tool returns the path of a program of Prometheus, or skips.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install prometheus)", name)
	}
	return path
}

// TestRulesAreValid has promtool read the rules' file.
func TestRulesAreValid(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "rules", rulesFile).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// of is a web service at one usher, in the form of a selector.
const of = `instance="a",service="web"`

// situations are series, one sample a minute, under which each alert fires, and under which it does not. Of both, {of}
// stands for the labels of one service.
var situations = map[string]struct{ fires, silent []string }{
	"UsherUnreachable": {
		fires: []string{`up{job="usher",instance="a"}: 0x30`}, silent: []string{`up{job="usher",instance="a"}: 1x28 0x2`},
	},
	"UsherServiceDown": {
		fires:  []string{`usher_service_backends{{of},status="up"}: 0x30`, `usher_service_backends{{of},status="drain"}: 2x30`},
		silent: []string{`usher_service_backends{{of},status="up"}: 0x30`, `usher_service_backends{{of},status="unknown"}: 1x30`},
	},
	"UsherBackendsDown": {
		fires:  []string{`usher_service_backends{{of},status="down"}: 1x30`},
		silent: []string{`usher_service_backends{{of},status="down"}: 1x12 0x4 1x14`},
	},
	"UsherBackendFlapping": {
		fires:  []string{`usher_backend_up{{of},backend="b:1"}: 1 0 1 0 1 0 1 0 1x22`},
		silent: []string{`usher_backend_up{{of},backend="b:1"}: 1 0 1 0 1x26`},
	},
	"UsherClientsTurnedAway": {
		fires: []string{`usher_service_ended_flows_total{{of},outcome="max-conns"}: 0+1x30`},
		silent: []string{
			`usher_service_ended_flows_total{{of},outcome="max-conns"}: 7x30`, `usher_service_ended_flows_total{{of},outcome="fin"}: 0+900x30`,
		},
	},
	"UsherClientsNotLetIn": {
		fires:  []string{`usher_service_ended_flows_total{{of},outcome="denied"}: 0+900x30`},
		silent: []string{`usher_service_ended_flows_total{{of},outcome="denied"}: 0+60x30`},
	},
	"UsherFailedFlows": {
		fires:  []string{`usher_service_flows_total{{of}}: 0+100x30`, `usher_service_failed_flows_total{{of}}: 0+6x30`},
		silent: []string{`usher_service_flows_total{{of}}: 0+100x30`, `usher_service_failed_flows_total{{of}}: 0+4x30`},
	},
	"UsherSlowConnect": {
		fires: []string{
			`usher_service_connect_seconds_bucket{{of},le="1"}: 0+90x30`, `usher_service_connect_seconds_bucket{{of},le="5"}: 0+100x30`,
			`usher_service_connect_seconds_bucket{{of},le="+Inf"}: 0+100x30`,
		},
		silent: []string{
			`usher_service_connect_seconds_bucket{{of},le="1"}: 0+99x30`, `usher_service_connect_seconds_bucket{{of},le="5"}: 0+100x30`,
			`usher_service_connect_seconds_bucket{{of},le="+Inf"}: 0+100x30`,
		},
	},
	"UsherQueue": {
		fires: []string{`usher_service_queued_flows{{of}}: 3x30`}, silent: []string{`usher_service_queued_flows{{of}}: 3x24 0 3x5`},
	},
	"UsherNearMaxConns": {
		fires:  []string{`usher_flows{instance="a"}: 81x30`, `usher_flows_limit{instance="a"}: 100x30`},
		silent: []string{`usher_flows{instance="a"}: 79x30`, `usher_flows_limit{instance="a"}: 100x30`},
	},
	"UsherNearDescriptorLimit": {
		fires: []string{
			`process_open_fds{instance="a"}: 950x30`, `process_max_fds{instance="a"}: 1000x30`, `usher_flows{instance="a"}: 1x30`,
		},
		silent: []string{`process_open_fds{instance="other"}: 950x30`, `process_max_fds{instance="other"}: 1000x30`},
	},
	"UsherOutOfResources": {
		fires:  []string{`usher_service_resource_shortages_total{{of}}: 0x28 1 1`},
		silent: []string{`usher_service_resource_shortages_total{{of}}: 9x30`},
	},
	"UsherDatagramsDropped": {
		fires:  []string{`usher_service_dropped_datagrams_total{{of},reason="kernel"}: 0+90x30`},
		silent: []string{`usher_service_dropped_datagrams_total{{of},reason="refused"}: 0+90x30`},
	},
	"UsherWorkerBusy": {
		fires:  []string{`usher_worker_busy_seconds_total{instance="a",worker="0"}: 0+58x30`},
		silent: []string{`usher_worker_busy_seconds_total{instance="a",worker="0"}: 0+50x30`},
	},
	"UsherWorkerStalled": {
		fires:  []string{`usher_worker_longest_turn_seconds{instance="a",worker="0"}: 0.6x30`},
		silent: []string{`usher_worker_longest_turn_seconds{instance="a",worker="0"}: 0.4x30`},
	},
	"UsherLogLinesDropped": {
		fires: []string{`usher_log_lines_dropped_total{instance="a"}: 0x25 40x4`}, silent: []string{`usher_log_lines_dropped_total{instance="a"}: 40x30`},
	},
	"UsherReloadFailed": {
		fires:  []string{`usher_config_last_reload_successful{instance="a"}: 0x30`},
		silent: []string{`usher_config_last_reload_successful{instance="a"}: 1x26 0x4`},
	},
	"UsherRestarted": {
		fires:  []string{`process_start_time_seconds{instance="a"}: 100x25 200x4`, `usher_flows{instance="a"}: 1x30`},
		silent: []string{`process_start_time_seconds{instance="b"}: 100x25 200x4`, `usher_flows{instance="a"}: 1x30`},
	},
}

// TestAlertsFire has promtool run each alert for half an hour of series.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	path := tool(t, "promtool")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	type input struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	var tests []map[string]any
	for _, a := range alerts(t) {
		s, ok := situations[a.Alert]
		if !ok {
			t.Errorf("no situation is known for %s", a.Alert)
		}
		for i, all := range [][]string{s.fires, s.silent} {
			var series []input
			for _, line := range all {
				name, values, _ := strings.Cut(strings.ReplaceAll(line, "{of}", of), ": ")
				series = append(series, input{name, values})
			}
			expected := []map[string]any{}
			if i == 0 {
				expected = append(expected, map[string]any{"labels": "{}", "value": 1})
			}
			tests = append(tests, map[string]any{
				"name": fmt.Sprintf("%s %d", a.Alert, i), "interval": "1m", "input_series": series,
				"promql_expr_test": []map[string]any{{
					"expr":      fmt.Sprintf(`count(ALERTS{alertname="%s",alertstate="firing"})`, a.Alert),
					"eval_time": "30m", "exp_samples": expected,
				}},
			})
		}
	}
	text, err := json.Marshal(map[string]any{"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": tests})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yaml") // JSON is YAML
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), path, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// mayBeEmpty are queries without a series where nothing is wrong, by the beginning of their name.
var mayBeEmpty = map[string]string{
	"Usher": "an alert has series while it fires alone",
}

// TestPrometheusAnswersQueries scrapes a real usher with a real Prometheus, and asks it every query.
func TestPrometheusAnswersQueries(t *testing.T) {
	t.Parallel()
	path := tool(t, "prometheus")
	u := startUsher(t)
	folder := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "prometheus.yaml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: usher, static_configs: [{targets: [%q]}]}]\n", rules, u.admin)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address=127.0.0.1:0")
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	server := awaitLog(t, c, regexp.MustCompile(`msg="Listening on" address=(127\S+)`), regexp.MustCompile("Server is ready"))
	for ask(t, server, "count_over_time(usher_flows[1m]) >= 4") == 0 { // rate() needs two samples
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test has ended")
		}
	}
	for _, q := range queries(t) {
		n := ask(t, server, q.expr)
		why := ""
		for name, reason := range mayBeEmpty {
			if strings.HasPrefix(q.where, name) {
				why = reason
			}
		}
		if n == 0 && why == "" {
			t.Errorf("%s has no series: %s", q.where, q.expr)
		}
	}
}

// ask returns how many series a query has.
func ask(t *testing.T, server, expr string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server+"/api/v1/query?query="+url.QueryEscape(expr), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var result struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		t.Fatal(err)
	}
	if result.Status != "success" {
		t.Errorf("%s: %s", expr, result.Error)
	}
	return len(result.Data.Result)
}
