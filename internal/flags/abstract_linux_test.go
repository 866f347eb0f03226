package flags

import "testing"

func TestAbstractSockets(t *testing.T) {
	t.Parallel()
	words := Words{Mappings: []string{"unix:@in=unix:@out,backup,unix://@9@3,9001"}}
	c, err := parse(words, machine)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := brief(c), "in: [unix://@in] -> [unix://@out,backup unix://@9@3 127.0.0.1:9001]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for word, want := range map[string]string{
		"unix:@a,mode=660=9001": `unix://@a has no file, and so no mode, user, group`,
		"unix:@a=unix://@a":     `backend unix://@a of service a is its own listener unix://@a`,
	} {
		if _, err := parse(Words{Mappings: []string{word}}, machine); err == nil || err.Error() != want && err.Error() != word+": "+want {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}
