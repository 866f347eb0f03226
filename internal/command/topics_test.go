package command

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"usher/health"
	"usher/internal/config"
)

// What the help says of defaults is what package health has.
func TestHelpTellsTheDefaultsOfHealth(t *testing.T) {
	t.Parallel()
	check, eject := health.DefaultPolicy(), health.DefaultEjectPolicy()
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

// The examples of the help can be typed as they stand.
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
