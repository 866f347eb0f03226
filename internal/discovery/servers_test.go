package discovery

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A silent server is skipped while another answers, and reported once.
func TestServers(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	for _, tt := range []struct {
		name        string
		other       bool // the other one answers
		why         error
		wait, after time.Duration // a question is put after the first, and the next one after the second
		first, next bool          // whether the server is asked
	}{
		{name: "silent, and nobody else", why: errNoAnswer, first: true, next: true},
		{name: "silent", other: true, why: errNoAnswer},
		{name: "silent, for a while", other: true, why: errNoAnswer, wait: silentPause, first: true},
		{name: "silent, and tried", other: true, why: errNoAnswer, wait: silentPause, after: silentPause, first: true, next: true},
		{name: "silent, and the other one not asked any more", other: true, why: errNoAnswer, wait: answerValidity, first: true, next: true},
		{name: "not there", why: refused},
		{name: "not there, for a moment", why: refused, wait: refusedPause, first: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told []string
			s := newServers(func(server string, err error) { told = append(told, fmt.Sprint(server, " ", err)) })
			if tt.other {
				s.onAnswer("b")
			}
			for range 5 {
				if err := s.skipReason("a"); err == nil {
					s.onFailure("a", tt.why)
				}
			}
			time.Sleep(tt.wait)
			first := s.skipReason("a") == nil
			time.Sleep(tt.after)
			next := s.skipReason("a") == nil
			if first != tt.first || next != tt.next {
				t.Errorf("%s: asked %v and then %v, want %v and %v", tt.name, first, next, tt.first, tt.next)
			}
			if s.skipReason("b") != nil {
				t.Errorf("%s: the other one is not asked", tt.name)
			}
			s.onAnswer("a")
			s.onAnswer("a")
			if want := []string{"a " + tt.why.Error(), "a <nil>"}; !slices.Equal(told, want) {
				t.Errorf("%s: told %q, want %q", tt.name, told, want)
			}
		})
	}
}
