package config

import (
	"testing"
	"time"
)

func TestAgents(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]Agent{
		"off":                       {Interval: 2 * time.Second, Timeout: time.Second},
		"9100":                      {Port: 9100, Interval: 2 * time.Second, Timeout: time.Second},
		"9100,interval=500ms":       {Port: 9100, Interval: 500 * time.Millisecond, Timeout: 500 * time.Millisecond},
		"9100,timeout=2s":           {Port: 9100, Interval: 2 * time.Second, Timeout: 2 * time.Second},
		`9100,send=a\,b\n`:          {Port: 9100, Send: "a,b\n", Interval: 2 * time.Second, Timeout: time.Second},
		"1,interval=1m,timeout=10s": {Port: 1, Interval: time.Minute, Timeout: 10 * time.Second},
	} {
		got, err := parseAgent(word)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", word, got, err)
		}
		again, err := parseAgent(got.String())
		if err != nil || again != got {
			t.Errorf("%s is written %s, which is %+v, %v", word, got, again, err)
		}
	}
}
