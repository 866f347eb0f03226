package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	diff "github.com/google/go-cmp/cmp"

	"usher/internal/kube/objects"
)

const (
	lost  = "warn API server is lost; the last state stands"
	none  = "warn API server is lost; usher waits"
	fails = "warn API server fails; the last state stands"
	back  = "info API server is back"
)

var scripts = []struct {
	name   string
	script []reply
	want   []string // the Services in the end, and their versions
	seen   []string // requests for Services
	log    []string
	refuse int
	lasts  time.Duration
	isJSON bool // not for protobuf
}{
	{name: "list and changes",
		script: []reply{list("10", "a:1", "b:2"), events(added("c:11"), modified("a:12"), deleted("b:13"))},
		want:   []string{"a:12", "c:11"}, seen: []string{"list 0", "watch 10"}},
	{name: "watch goes on from a bookmark",
		script: []reply{list("10", "a:1"), events(added("b:11"), bookmark("50"), event{end: finish})},
		want:   []string{"a:1", "b:11"}, seen: []string{"list 0", "watch 10", "watch 50"}},
	{name: "410 in the stream: what the list lacks is deleted",
		script: []reply{list("10", "a:1", "b:2"), events(added("c:11"), failure(410, metav1.StatusReasonExpired)), list("30", "a:1", "c:29")},
		want:   []string{"a:1", "c:29"}, seen: []string{"list 0", "watch 10", "list 11", "watch 30"}},
	{name: "410 at the watch",
		script: []reply{list("10", "a:1"), status(410, metav1.StatusReasonExpired), list("30")},
		seen:   []string{"list 0", "watch 10", "list 10", "watch 30"}},
	{name: "410 at the list: any version will do",
		script: []reply{list("10", "a:1"), events(failure(410, metav1.StatusReasonExpired)), status(410, metav1.StatusReasonExpired), list("30", "b:30")},
		want:   []string{"b:30"}, seen: []string{"list 0", "watch 10", "list 10", "list ", "watch 30"}},
	{name: "reset in an event",
		script: []reply{list("10", "a:1"), events(added("b:11"), cut(reset))},
		want:   []string{"a:1", "b:11"}, seen: []string{"list 0", "watch 10", "watch 11"}},
	{name: "end in an event",
		script: []reply{list("10", "a:1"), events(added("b:11"), cut(finish))},
		want:   []string{"a:1", "b:11"}, seen: []string{"list 0", "watch 10", "watch 11"}},
	{name: "reset before the first event",
		script: []reply{list("10", "a:1"), events(event{end: reset}), list("10", "a:1")},
		want:   []string{"a:1"}, seen: []string{"list 0", "watch 10", "list 10", "watch 10"}},
	{name: "error in the stream",
		script: []reply{list("10", "a:1"), events(failure(500, metav1.StatusReasonInternalError)), list("12", "a:1"), events(failure(500, metav1.StatusReasonInternalError)),
			list("12", "a:1"), events(added("b:13"))},
		want: []string{"a:1", "b:13"}, seen: []string{"list 0", "watch 10", "list 10", "watch 12", "list 12", "watch 12"}, log: []string{fails, back}},
	{name: "another kind in the stream",
		script: []reply{list("10", "a:1"), events(event{kind: watch.Added, object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}, added("b:11"))},
		want:   []string{"a:1", "b:11"}, seen: []string{"list 0", "watch 10"}},
	{name: "server without an answer", script: []reply{reset, reset, reset, list("10", "a:1")},
		want: []string{"a:1"}, seen: []string{"list 0", "list 0", "list 0", "list 0", "watch 10"}, log: []string{none, back}},
	{name: "no server at first", script: []reply{list("10", "a:1")}, refuse: 12,
		want: []string{"a:1"}, seen: []string{"list 0", "watch 10"}, log: []string{none, back}},
	{name: "slow list", script: []reply{after(time.Minute, list("10", "a:1"))},
		want: []string{"a:1"}, seen: []string{"list 0", "watch 10"}},
	{name: "list that never comes", script: []reply{after(time.Hour, list("10")), list("12", "b:1")},
		want: []string{"b:1"}, seen: []string{"list 0", "list 0", "watch 12"}, log: []string{none, back}},
	{name: "no list is JSON", script: []reply{text("{\"kind\":\"ServiceList\",\"items\":[{\"metadata\":7}]}"), text("<html>"), list("10", "a:1")}, isJSON: true,
		want: []string{"a:1"}, seen: []string{"list 0", "list 0", "list 0", "watch 10"}, log: []string{none, back}},
	{name: "no event is JSON", script: []reply{list("10", "a:1"), text("}{"), list("10", "a:1"), events(bookmark("11"))}, isJSON: true,
		want: []string{"a:1"}, seen: []string{"list 0", "watch 10", "list 10", "watch 10"}, log: []string{fails, back}},
	{name: "credentials that have expired", script: []reply{list("10", "a:1"), status(401, metav1.StatusReasonUnauthorized), status(401, metav1.StatusReasonUnauthorized), list("10", "a:1")},
		want: []string{"a:1"}, seen: []string{"list 0", "watch 10", "list 10", "list 10", "watch 10"},
		log: []string{"warn API server refuses the credentials: renew them in the kubeconfig, or restart the pod; the last state stands", back}},
	{name: "a role that does not watch",
		script: []reply{list("10", "a:1"), status(403, metav1.StatusReasonForbidden), list("10", "b:1"), status(403, metav1.StatusReasonForbidden), list("11", "c:1")},
		want:   []string{"c:1"}, seen: []string{"list 0", "watch 10", "list 10", "watch 10", "list 10", "watch 11"},
		log: []string{"warn API server does not let usher read services: apply the ClusterRole of usher kube --print-manifests; the last state stands", back}},
	{name: "server that flaps",
		script: []reply{list("10", "a:1"), status(503, metav1.StatusReasonServiceUnavailable), list("11", "a:1"), status(503, metav1.StatusReasonServiceUnavailable),
			list("12", "b:12"), status(503, metav1.StatusReasonServiceUnavailable), list("13", "b:12")},
		want: []string{"b:12"}, seen: []string{"list 0", "watch 10", "list 10", "watch 11", "list 11", "watch 12", "list 12", "watch 13"}, log: []string{fails, back}},
	{name: "server that ends every watch",
		script: []reply{list("10", "a:1"), reset, list("11", "a:1"), reset, list("12", "b:12"), finish, list("13", "b:12"), events(bookmark("14"))},
		want:   []string{"b:12"}, seen: []string{"list 0", "watch 10", "list 10", "watch 11", "list 11", "watch 12", "list 12", "watch 13"},
		log: []string{"warn API server ends every watch at once, so changes arrive late; the last state stands", back}},
	{name: "watch that the server does not end", script: []reply{list("10", "a:1"), events(added("b:11"))}, lasts: 11 * time.Minute,
		want: []string{"a:1", "b:11"}, seen: []string{"list 0", "watch 10", "watch 11"}},
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for _, media := range []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf} {
		for _, c := range scripts {
			if c.isJSON && media != runtime.ContentTypeJSON {
				continue
			}
			t.Run(c.name+" "+media[len("application/"):], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, media, c.script...)
					s.refuse = c.refuse
					r := follow(t, s, "")
					time.Sleep(cmp.Or(c.lasts, 4*time.Minute)) // a watch is let be for five at least
					r.end()
					check(t, "services", c.want, versions(r.store))
					check(t, "requests", c.seen, s.take(&s.seen))
					check(t, "log", c.log, lines(r.log))
				})
			})
		}
	}
}

// running is a client that follows a server until end is called.
type running struct {
	cluster *Cluster
	store   *objects.Store
	log     *observer.ObservedLogs
	end     func()
}

func follow(t *testing.T, s *server, node string) *running {
	core, log := observer.New(zap.InfoLevel)
	r := &running{cluster: s.open(t, node, zap.New(core)), store: objects.New(), log: log}
	ctx, cancel := context.WithCancel(t.Context())
	synced, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.cluster.Run(ctx, r.store, func() { synced++ }); err != nil {
			t.Error(err)
		}
	}()
	r.end = func() {
		cancel()
		<-ended
		if synced != 1 {
			t.Errorf("synced %d times", synced)
		}
	}
	return r
}

func check(t *testing.T, what string, want, got []string) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Errorf("%s:\n%s", what, diff.Diff(want, got))
	}
}

func versions(s *objects.Store) []string {
	var all []string
	for _, key := range s.ServiceKeys() {
		all = append(all, key.Name+":"+s.Service(key).ResourceVersion)
	}
	return all
}

func lines(log *observer.ObservedLogs) []string {
	var all []string
	for _, e := range log.All() {
		all = append(all, strings.TrimSpace(e.Level.String()+" "+e.Message))
	}
	return all
}
