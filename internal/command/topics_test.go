package command

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"usher/health"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/flags"
	"usher/proxy/flow"
)

// The help has the defaults of package health.
func TestHelpTellsTheDefaultsOfHealth(t *testing.T) {
	t.Parallel()
	check, eject := health.DefaultPolicy(), health.DefaultOutlierPolicy()
	for topic, want := range map[string]string{
		"health":   fmt.Sprintf("interval=%gs   timeout=%gs   rise=%d   fall=%d", check.Interval.Seconds(), check.Timeout.Seconds(), check.Rise, check.Fall),
		"backends": fmt.Sprintf("--eject N[,time=%gs][,share=%d%%]", eject.Base.Seconds(), eject.MaxShare),
	} {
		if page := topics()[topic]; !strings.Contains(page, want) {
			t.Errorf("usher help %s lacks %q", topic, want)
		}
	}
	if page, want := topics()["backends"], fmt.Sprintf("up to %gm;", eject.Max.Minutes()); !strings.Contains(page, want) {
		t.Errorf("usher help backends lacks %q", want)
	}
}

// The examples of the help are valid as they are.
func TestHelpExamplesOfHealth(t *testing.T) {
	t.Parallel()
	examples := regexp.MustCompile(`--health '([^']+)'`).FindAllStringSubmatch(topics()["health"], -1)
	if len(examples) < 3 {
		t.Errorf("%d examples, want those of redis, SMTP and PostgreSQL", len(examples))
	}
	for _, e := range examples {
		if h, err := config.ParseHealth(e[1]); err != nil || h.Script == "" {
			t.Errorf("%s: %+v, %v", e[1], h, err)
		}
	}
}

// The help has every word for the end of a flow.
func TestHelpTellsTheEnds(t *testing.T) {
	t.Parallel()
	for o := range flow.Outcomes() {
		if !regexp.MustCompile(`(?m)^  (\S+, )*` + o.String() + `(,| |$)`).MatchString(topics()["logs"]) {
			t.Errorf("usher help logs lacks %s", o)
		}
	}
}

// The example of a config file is one.
func TestExampleOfConfig(t *testing.T) {
	t.Parallel()
	text := between(configFileHelp, "\n\n", "\n\n")
	file, err := configfile.Parse("usher.yaml", []byte(text), nil)
	if err == nil {
		plan := config.Config{Services: file.Services, Process: config.DefaultProcess()}
		err = plan.Complete()
	}
	if err != nil || len(file.Services) == 0 {
		t.Errorf("%v\n%s", err, text)
	}
}

// The command lines about access are valid.
func TestExamplesOfAccess(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"iptables", "proxy", "sni"} {
		text := topics()[name]
		text = regexp.MustCompile(`\\\n *`).ReplaceAllString(text, "")
		examples := regexp.MustCompile(`(?m)^ *usher ((?:-l|:|\d).*)$`).FindAllStringSubmatch(text, -1)
		if len(examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, e := range examples {
			w, err := words(t, shellWords(e[1])...)
			if err == nil {
				_, err = flags.Parse(w)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", name, e[1], err)
			}
		}
	}
}

// shellWords splits a line as a shell does that knows blanks and single quotes, up to what explains it: a comment, or
// what stands in a column of its own.
func shellWords(line string) []string {
	var out []string
	line, _, _ = strings.Cut(line, " #")
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		part, _, isExplained := strings.Cut(strings.TrimSpace(part), "      ")
		out = append(out, strings.Fields(part)...)
		if isExplained {
			break
		}
	}
	return out
}

// between returns the text between two marks.
func between(text, before, behind string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, behind)
	return text
}
