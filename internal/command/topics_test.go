package command

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"usher/health"
	"usher/internal/config"
	"usher/internal/configfile"
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

// The examples of a config file, in the help and in the README, are such files.
func TestExamplesOfConfig(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"help":   between(configFileHelp, "\n\n", "\n\n"),
		"readme": between(string(readme), "```yaml\n", "```"),
	} {
		file, err := configfile.Parse("usher.yaml", []byte(text), nil)
		if err == nil {
			plan := config.Config{Services: file.Services, Process: config.DefaultProcess()}
			err = plan.Complete()
		}
		if err != nil || len(file.Services) == 0 {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// between returns the text between two marks.
func between(text, before, behind string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, behind)
	return text
}
