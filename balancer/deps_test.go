package balancer

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPure keeps sockets, clock and randomness out of the package.
func TestPure(t *testing.T) {
	t.Parallel()
	banned := regexp.MustCompile(`"(net|os|syscall|math/rand(/v2)?|crypto/rand)"|\btime\.(Now|Since|Until|After|AfterFunc|Sleep|NewTimer|NewTicker|Tick)\b`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if word := banned.FindString(string(text)); word != "" {
			t.Errorf("%s has %s", file, word)
		}
	}
}
