package command

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"usher/internal/api"
)

// An upgrade is asked for with an absolute path, and the answer says what runs now.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	binary, err := filepath.Abs("usher.new")
	if err != nil {
		t.Fatal(err)
	}
	var upgrades atomic.Int64
	path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_ = json.NewEncoder(w).Encode(api.Process{PID: 42, Version: "v2", Flows: 1, Upgrades: int(upgrades.Load())})
			return
		}
		var body api.Upgrade
		switch _ = json.NewDecoder(r.Body).Decode(&body); body.Binary {
		case binary, "":
			upgrades.Add(1)
			panic(http.ErrAbortHandler) // as the old image goes, so does its answer
		default:
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(api.Error{Error: body.Binary + " is no usher"})
		}
	}))
	for _, tt := range []struct {
		words          []string
		status         int
		stdout, stderr string
	}{
		{[]string{"--binary", "usher.new"}, ok, "upgraded: pid 42 runs version v2, with 1 flow\n", ""},
		{nil, ok, "upgraded: pid 42 runs version v2, with 1 flow\n", ""},
		{[]string{"--binary=/bin/true"}, failed, "", "usher: /bin/true is no usher\n"},
	} {
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), append([]string{"usher", "upgrade", "--control", path}, tt.words...), &stdout, &stderr)
		if status != tt.status || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
			t.Errorf("%v: status %d, stdout %q, stderr %q", tt.words, status, &stdout, &stderr)
		}
	}
}

// A refusal about a file has several lines, as the file's mistake has here. No other word of an answer moves the cursor.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"there is no config file to reload":                                      "usher: there is no config file to reload\n",
		"usher.yaml:5:5: unknown key \"schedulr\"\n    schedulr: \x1b[2J\n    ^": "usher.yaml:5:5: unknown key \"schedulr\"\n    schedulr: \\x1b[2J\n    ^\n",
	} {
		path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(api.Error{Error: text})
		}))
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), []string{"usher", "reload", "--control", path}, &stdout, &stderr)
		if status != failed || stdout.Len() > 0 || stderr.String() != want {
			t.Errorf("status %d, stdout %q, stderr\n%s", status, &stdout, &stderr)
		}
	}
}
