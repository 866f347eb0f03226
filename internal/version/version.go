// Package version says which usher a binary is, by what its build has left in it. The command line, the API, the log and
// the man page ask here.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// stamped is the version that a release was built as, set by go build -ldflags "-X usher/internal/version.stamped=v1.2.3".
// Only the linker writes it. Empty: the build tells its version itself.
var stamped string

// Unknown is the version of a build that knew neither a tag nor a commit.
const Unknown = "devel"

// shortRevision is how many digits of a commit name it, as in the versions that Go makes.
const shortRevision = 12

// Info describes a binary. It is the answer of usher version -o json.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // the commit; empty: the build saw no repository
	Time     string `json:"time,omitempty"`     // of the commit, in RFC 3339
	Dirty    bool   `json:"dirty,omitempty"`    // files differed from the commit
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Level    string `json:"level,omitempty"` // of CPUs that the code needs at least, such as v1 of amd64
	Cgo      bool   `json:"cgo"`
}

// Get describes this binary.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = new(debug.BuildInfo)
	}
	info := describe(build, stamped)
	info.Go, info.OS, info.Arch = runtime.Version(), runtime.GOOS, runtime.GOARCH
	return info
}

// Short is the version in one word.
func Short() string { return Get().Version }

// describe reads what a build has left, and what a release was stamped with.
func describe(build *debug.BuildInfo, stamp string) Info {
	var info Info
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.time":
			info.Time = s.Value
		case "vcs.modified":
			info.Dirty = s.Value == "true"
		case "CGO_ENABLED":
			info.Cgo = s.Value == "1"
		case "GOAMD64", "GOARM64":
			info.Level = s.Value
		}
	}
	of := build.Main.Version // of a tag or a commit; Go adds +dirty
	if of == "(devel)" {
		of = ""
	}
	if of == "" && info.Revision != "" {
		of = Unknown + "-" + info.Revision[:min(shortRevision, len(info.Revision))]
		if info.Dirty {
			of += "+dirty"
		}
	}
	info.Version = cmp.Or(stamp, of, Unknown)
	return info
}

// Date returns when the commit was made. Not ok: the build saw no repository.
func (i Info) Date() (date time.Time, ok bool) {
	date, err := time.Parse(time.RFC3339, i.Time)
	return date.UTC(), err == nil
}

// Text is the description for people, with what it is about at the beginning of each line.
func (i Info) Text() string {
	var b strings.Builder
	line := func(what, is string) { fmt.Fprintf(&b, "%-10s %s\n", what, is) }
	line("version", i.Version)
	switch {
	case i.Revision == "":
		line("commit", "unknown (the build saw no repository)")
	case i.Dirty:
		line("commit", i.Revision+" of "+i.Time+", with changes that are not committed")
	default:
		line("commit", i.Revision+" of "+i.Time)
	}
	line("go", strings.TrimPrefix(i.Go, "go"))
	platform := i.OS + "/" + i.Arch
	if i.Level != "" {
		platform += " " + i.Level
	}
	line("platform", platform)
	libraries := "none: the binary is static"
	if i.Cgo {
		libraries = "those of the system (built with cgo)"
	}
	line("libraries", libraries)
	return b.String()
}
