package prometheus

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"usher/balancer"
	"usher/proxy/flow"
)

const (
	dashboardFile = "../grafana/usher.json"
	rulesFile     = "usher.rules.yaml"
)

// query is one expression of the dashboard or of an alert.
type query struct{ where, expr string }

// alert is a rule of the rules' file.
type alert struct {
	Alert, Expr, For string
	Labels           map[string]string
	Annotations      map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// dashboard is what tests read of Grafana's model.
type dashboard struct {
	UID           string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Expr, LegendFormat, RefID string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// queries are those of all panels, with the variables filled in, and of all alerts.
func queries(t *testing.T) (all []query) {
	t.Helper()
	fill := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$service", ".*")
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			all = append(all, query{p.Title + " / " + target.LegendFormat, fill.Replace(target.Expr)})
		}
	}
	for _, a := range alerts(t) {
		all = append(all, query{a.Alert, a.Expr})
	}
	return all
}

// TestDashboardIsWhole: panels have a title, a place of their own and an identity, and variables are known.
func TestDashboardIsWhole(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.UID == "" || d.SchemaVersion < 39 {
		t.Errorf("uid %q, schema %d", d.UID, d.SchemaVersion)
	}
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if p.Title == "" || ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, q := range queries(t) {
		if strings.Contains(q.expr, "$") {
			t.Errorf("%s: unknown variable in %s", q.where, q.expr)
		}
	}
}

// TestAlertsSayWhatToDo: each has a severity, a summary, and a description that names a command, an option or the log.
func TestAlertsSayWhatToDo(t *testing.T) {
	t.Parallel()
	does := regexp.MustCompile(`usher [a-z]+|--[a-z]`)
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || a.Annotations["summary"] == "" ||
			!does.MatchString(a.Annotations["description"]) {
			t.Errorf("%+v", a)
		}
	}
}

// Of an expression: metrics with their matchers, and the lists of labels.
var (
	selectors = regexp.MustCompile(`\b((?:usher|process|go)_[a-z0-9_]+|up)\b(\{[^}]*\})?`)
	lists     = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	matchers  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"`)
)

// TestQueriesMatchMetrics holds every name of a metric, of a label and of a value in the queries to what usher has.
func TestQueriesMatchMetrics(t *testing.T) {
	t.Parallel()
	u := startUsher(t)
	labels := u.labels(t)
	words := map[string][]string{"direction": {"up", "down"}, "mode": {"user", "system"}}
	for _, s := range []balancer.Status{balancer.Up, balancer.Down, balancer.Draining, balancer.InMaint, balancer.Unknown} {
		words["status"] = append(words["status"], s.String())
	}
	for o := range flow.Outcomes() {
		words["outcome"] = append(words["outcome"], o.String())
	}
	for d := range flow.Drops() {
		words["reason"] = append(words["reason"], d.String())
	}
	for _, q := range queries(t) {
		have := []string{"instance", "job", "le"}
		for _, m := range selectors.FindAllStringSubmatch(q.expr, -1) {
			own, isKnown := labels[m[1]]
			if !isKnown && m[1] != "up" {
				t.Errorf("%s: there is no metric %s", q.where, m[1])
			}
			have = append(have, own...)
			for _, match := range matchers.FindAllStringSubmatch(m[2], -1) {
				if label := match[1]; label != "instance" && label != "job" && !slices.Contains(own, label) {
					t.Errorf("%s: %s has no label %s", q.where, m[1], label)
				}
				for word := range strings.SplitSeq(match[2], "|") {
					if of := words[match[1]]; of != nil && !slices.Contains(of, word) {
						t.Errorf("%s: no %s is %s", q.where, match[1], word)
					}
				}
			}
		}
		for _, list := range lists.FindAllStringSubmatch(q.expr, -1) {
			for label := range strings.SplitSeq(list[1], ", ") {
				if !slices.Contains(have, label) {
					t.Errorf("%s: no metric of %s has the label %s", q.where, q.expr, label)
				}
			}
		}
	}
}
