package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// server is an API server that answers requests for Services from a script, in memory: time is that of a bubble.
// Other kinds have empty lists, and watches without an event.
type server struct {
	media           runtime.SerializerInfo
	conns           chan net.Conn
	node, nodeWatch reply // in place of the empty list of Nodes, and of a watch without an event
	mu              sync.Mutex
	script          []reply
	seen            []string // requests for Services: verb and version
	other           []string // method and URI of all requests but watches
	refuse          int      // how many connects fail
}

// reply answers one request.
type reply func(s *server, w http.ResponseWriter, r *http.Request)

func newServer(t *testing.T, mediaType string, script ...reply) *server {
	s := &server{conns: make(chan net.Conn), script: script, node: answer(&corev1.NodeList{}), nodeWatch: quietWatch}
	for _, m := range serializer.NewCodecFactory(scheme()).SupportedMediaTypes() {
		if m.MediaType == mediaType {
			s.media = m
		}
	}
	h := &http.Server{Handler: s}
	l := &listener{conns: s.conns, closed: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.Serve(l) })
	t.Cleanup(func() { _ = h.Close(); serving.Wait() })
	return s
}

// open returns a client of the server.
func (s *server) open(t *testing.T, node string, log *zap.Logger) *Cluster {
	t.Helper()
	c, err := open(&rest.Config{Host: "http://api.test", Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true}}, Options{Node: node, Log: log, UserAgent: "usher/test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	refused := s.refuse > 0
	s.refuse--
	s.mu.Unlock()
	if refused {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	select {
	case s.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := "list"
	if r.URL.Query().Has("watch") {
		verb = "watch"
	}
	next, late := reply(quietWatch), time.Duration(0)
	s.mu.Lock()
	if verb != "watch" {
		body, _ := io.ReadAll(r.Body)
		s.other = append(s.other, strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.URL.Query().Get("fieldSelector"), string(body))))
	}
	switch resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; {
	case resource == "services":
		late = time.Millisecond // the other kinds are listed
		s.seen = append(s.seen, verb+" "+r.URL.Query().Get("resourceVersion"))
		if len(s.script) > 0 {
			next, s.script = s.script[0], s.script[1:]
		}
	case resource == "status":
		next = list("1", "a:1")
	case resource == "nodes" && verb == "watch":
		next = s.nodeWatch
	case resource == "nodes":
		next = s.node
	case verb == "list":
		next = answer(&discoveryv1.EndpointSliceList{})
	}
	s.mu.Unlock()
	after(late, next)(s, w, r)
}

// take returns what there is of seen or other, once.
func (s *server) take(of *[]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := *of
	*of = nil
	return all
}

func (s *server) send(w http.ResponseWriter, o runtime.Object) {
	w.Header().Set("Content-Type", s.media.MediaType)
	if status, is := o.(*metav1.Status); is {
		w.WriteHeader(int(status.Code))
	}
	_ = s.media.Serializer.Encode(withKind(o), w)
}

// list answers with Services, each as NAME:VERSION.
func list(version string, names ...string) reply {
	l := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
	for _, n := range names {
		l.Items = append(l.Items, *service(n))
	}
	return answer(l)
}

// answer answers with an object.
func answer(o runtime.Object) reply {
	return func(s *server, w http.ResponseWriter, _ *http.Request) { s.send(w, o) }
}

// status answers with an error.
func status(code int32, reason metav1.StatusReason) reply {
	return answer(statusOf(code, reason))
}

func statusOf(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: "as the script says"}
}

// reset ends the connection without an answer.
func reset(*server, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// text answers with what is no object.
func text(body string) reply {
	return func(s *server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", s.media.MediaType)
		_, _ = io.WriteString(w, body)
	}
}

// after answers later.
func after(d time.Duration, then reply) reply {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			then(s, w, r)
		case <-r.Context().Done():
		}
	}
}

// event is one of a watch. Without an object the answer ends there.
type event struct {
	kind   watch.EventType
	object runtime.Object
	end    reply
}

func added(n string) event    { return event{kind: watch.Added, object: service(n)} }
func modified(n string) event { return event{kind: watch.Modified, object: service(n)} }
func deleted(n string) event  { return event{kind: watch.Deleted, object: service(n)} }
func bookmark(version string) event {
	return event{kind: watch.Bookmark, object: &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}}
}
func failure(code int32, reason metav1.StatusReason) event {
	return event{kind: watch.Error, object: statusOf(code, reason)}
}

// cut ends a stream in the middle of an event, by a reset or by its regular end.
func cut(end reply) event {
	return event{end: func(s *server, w http.ResponseWriter, r *http.Request) {
		var whole bytes.Buffer
		s.event(&whole, added("torn:99"))
		_, _ = w.Write(whole.Bytes()[:whole.Len()/2])
		w.(http.Flusher).Flush()
		end(s, w, r)
	}}
}

func finish(*server, http.ResponseWriter, *http.Request) {}

var quietWatch = events()

// events answers with those, and then nothing until the client leaves.
func events(all ...event) reply {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", s.media.MediaType+";stream=watch")
		w.(http.Flusher).Flush()
		for _, e := range all {
			if e.end != nil {
				e.end(s, w, r)
				return
			}
			s.event(w, e)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}
}

func (s *server) event(w io.Writer, e event) {
	var raw bytes.Buffer
	_ = s.media.Serializer.Encode(withKind(e.object), &raw)
	frames := s.media.StreamSerializer.Framer.NewFrameWriter(w)
	_ = s.media.StreamSerializer.Serializer.Encode(&metav1.WatchEvent{Type: string(e.kind), Object: runtime.RawExtension{Raw: raw.Bytes()}}, frames)
}

// withKind returns the object with its kind named, as an API server does. Scripts share objects.
func withKind(o runtime.Object) runtime.Object {
	kinds, _, err := scheme().ObjectKinds(o)
	if err != nil {
		panic(err)
	}
	o = o.DeepCopyObject()
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	return o
}

// service returns the Service that NAME:VERSION stands for.
func service(n string) *corev1.Service {
	name, version, _ := strings.Cut(n, ":")
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "1", ResourceVersion: version}}
}

// listener accepts what dial gives it.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }
