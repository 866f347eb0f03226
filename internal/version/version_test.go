package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	const commit = "c2446ccdd0fdc50367834962dc060d7e2aa0b5c7"
	for name, tt := range map[string]struct {
		main, stamp string
		settings    []string // key, value
		version     string
		line        string // of the text
	}{
		"module":        {main: "v1.2.3", version: "v1.2.3", line: "commit     unknown (the build saw no repository)"},
		"nothing known": {main: "(devel)", version: "devel", line: "commit     unknown (the build saw no repository)"},
		"clone": {
			main: "v0.0.0-20261130100457-c2446ccdd0fd", version: "v0.0.0-20261130100457-c2446ccdd0fd",
			settings: []string{"vcs.revision", commit, "vcs.time", "2026-11-30T10:04:57Z", "vcs.modified", "false"},
			line:     "commit     " + commit + " of 2026-11-30T10:04:57Z",
		},
		"changed clone without a version": {
			main: "(devel)", version: "devel-c2446ccdd0fd+dirty",
			settings: []string{"vcs.revision", commit, "vcs.time", "2026-11-30T10:04:57Z", "vcs.modified", "true"},
			line:     "commit     " + commit + " of 2026-11-30T10:04:57Z, with changes that are not committed",
		},
		"release":     {main: "(devel)", stamp: "v2.0.0", version: "v2.0.0", settings: []string{"CGO_ENABLED", "0"}, line: "libraries  none: the binary is static"},
		"with cgo":    {version: "devel", settings: []string{"CGO_ENABLED", "1"}, line: "libraries  those of the system (built with cgo)"},
		"short names": {version: "devel-c24", settings: []string{"vcs.revision", "c24"}, line: "commit     c24 of "},
	} {
		build := &debug.BuildInfo{Main: debug.Module{Version: tt.main}}
		for i := 0; i < len(tt.settings); i += 2 {
			build.Settings = append(build.Settings, debug.BuildSetting{Key: tt.settings[i], Value: tt.settings[i+1]})
		}
		info := describe(build, tt.stamp)
		if info.Version != tt.version {
			t.Errorf("%s: version %q, want %q", name, info.Version, tt.version)
		}
		if text := info.Text(); !strings.Contains(text, tt.line+"\n") {
			t.Errorf("%s: lacks %q:\n%s", name, tt.line, text)
		}
	}
}
