package flags

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseService(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		words Words
		want  string
	}{
		{"", Words{Mappings: []string{"8080=9001,9002"}}, "8080"},
		{"web", Words{Mappings: []string{"8080=9001"}}, "web"},
		{"web", Words{Listen: []string{"8080", "web=8081"}, Backend: []string{"9001", "web=9002"}, Options: []Option{{"scheduler", "lc"}}}, "web"},
		{"default/web:http", Words{Mappings: []string{"8080=9001"}}, "default/web:http"},
		{"default/web:http", Words{Listen: []string{"unix:///x=1"}, Backend: []string{"unix:///y=2"}}, "default/web:http"},
		{"", Words{Listen: []string{"web=8080"}, Backend: []string{"web=9001"}}, "web"},
	} {
		s, err := ParseService(tt.name, tt.words)
		if err != nil {
			t.Errorf("%+v: %v", tt.words, err)
		} else if s.Name != tt.want {
			t.Errorf("%+v: named %s, want %s", tt.words, s.Name, tt.want)
		}
	}
}

func TestParseChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		network string
		words   Words
		want    Change
		err     string
	}{
		{"tcp", Words{Options: []Option{{"scheduler", "mh"}, {"idle-timeout", "web=1h"}}},
			Change{Options: []Option{{"scheduler", "mh"}, {"idle-timeout", "1h"}}}, ""},
		{"udp", Words{Listen: []string{"udp:53"}, Backend: []string{"web=1.1.1.1:53", "9001@3"}, Options: []Option{{"ops", "true"}}},
			Change{Listen: []string{"udp:53"}, Backends: []string{"1.1.1.1:53", "9001@3"}, Options: []Option{{"ops", "true"}}}, ""},
		{"tcp", Words{Options: []Option{{"ops", "true"}}}, Change{}, `--ops true: service "web" is tcp, and only udp services have this option`},
		{"udp", Words{Options: []Option{{"idle-timeout", "web=1h"}}}, Change{},
			`--idle-timeout web=1h: service "web" is udp, and only tcp services have this option (did you mean --udp-idle-timeout?)`},
		{"tcp", Words{Options: []Option{{"scheduler", "x=mh"}}}, Change{}, `--scheduler x=mh: no service "x" (have web)`},
		{"tcp", Words{Listen: []string{"x=80"}}, Change{}, `one service at a time, not web and x`},
		{"tcp", Words{Backend: []string{"9001@x"}}, Change{}, `--backend 9001@x: "x" is not a weight (0 to 2147483647)`},
	} {
		got, err := ParseChange("web", tt.network, tt.words)
		if text := errorText(err); text != tt.err {
			t.Errorf("%+v:\ngot  %s\nwant %s", tt.words, text, tt.err)
		} else if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%+v: %s", tt.words, diff)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
