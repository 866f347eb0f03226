// Package kubetest has what measurements and tests need in place of a cluster: an API server that lists and watches objects
// in memory. It is in no binary.
//
//	Set, Delete ─▶ objects, log of events ─▶ GET …/services, …/endpointslices, …/nodes, with and without watch
package kubetest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
)

// Object is a *corev1.Service, a *corev1.Node or a *discoveryv1.EndpointSlice.
type Object interface {
	runtime.Object
	metav1.Object
}

// Server is an API server without persistence, credentials and other kinds. It answers in protobuf. Any goroutine may call
// its methods.
type Server struct {
	listener net.Listener
	http     *http.Server
	serving  sync.WaitGroup
	media    runtime.SerializerInfo

	mu      sync.Mutex
	version int
	kinds   map[string]*kind // by resource
}

// kind has the objects of one kind. Events are those since the first version, so that no watch comes too late.
type kind struct {
	empty   func() runtime.Object // a list
	objects map[string]Object     // by NAMESPACE/NAME
	events  []event
	changed chan struct{} // closed by the next event
}

// event is a change, as a watch sends it.
type event struct {
	version int
	frame   []byte
}

func newKind(empty func() runtime.Object) *kind {
	return &kind{empty: empty, objects: make(map[string]Object), changed: make(chan struct{})}
}

func typeOf(of schema.GroupVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: of.String(), Kind: kind}
}

// Start serves on a port of 127.0.0.1 that the kernel chooses.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, kinds: map[string]*kind{
		"services": newKind(func() runtime.Object {
			return &corev1.ServiceList{TypeMeta: typeOf(corev1.SchemeGroupVersion, "ServiceList")}
		}),
		"endpointslices": newKind(func() runtime.Object {
			return &discoveryv1.EndpointSliceList{TypeMeta: typeOf(discoveryv1.SchemeGroupVersion, "EndpointSliceList")}
		}),
		"nodes": newKind(func() runtime.Object {
			return &corev1.NodeList{TypeMeta: typeOf(corev1.SchemeGroupVersion, "NodeList")}
		}),
	}}
	for _, m := range serializer.NewCodecFactory(scheme()).SupportedMediaTypes() {
		if m.MediaType == runtime.ContentTypeProtobuf {
			s.media = m
		}
	}
	s.http = &http.Server{Handler: s}
	s.serving.Go(func() { _ = s.http.Serve(l) })
	return s, nil
}

// Close ends all requests.
func (s *Server) Close() {
	_ = s.http.Close()
	s.serving.Wait()
}

// Kubeconfig returns the file that leads a client here.
func (s *Server) Kubeconfig() []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "http://%s"}}]
users: [{name: test, user: {}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
`, s.listener.Addr())
}

// Set adds or replaces an object, and has all watches send it. It writes type and version into it; nobody writes to it after.
func (s *Server) Set(o Object) error {
	return s.edit(o, func(k *kind, name string) watch.EventType {
		_, was := k.objects[name]
		k.objects[name] = o
		if was {
			return watch.Modified
		}
		return watch.Added
	})
}

// Delete removes an object.
func (s *Server) Delete(o Object) error {
	return s.edit(o, func(k *kind, name string) watch.EventType {
		delete(k.objects, name)
		return watch.Deleted
	})
}

func (s *Server) edit(o Object, change func(*kind, string) watch.EventType) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource := "services"
	of := typeOf(corev1.SchemeGroupVersion, "Service")
	switch o.(type) {
	case *corev1.Node:
		resource, of.Kind = "nodes", "Node"
	case *discoveryv1.EndpointSlice:
		resource, of = "endpointslices", typeOf(discoveryv1.SchemeGroupVersion, "EndpointSlice")
	}
	o.GetObjectKind().SetGroupVersionKind(of.GroupVersionKind())
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	k := s.kinds[resource]
	frame, err := s.frame(change(k, o.GetNamespace()+"/"+o.GetName()), o)
	if err != nil {
		return err
	}
	k.events = append(k.events, event{s.version, frame})
	close(k.changed)
	k.changed = make(chan struct{})
	return nil
}

// frame returns an event in the form of a watch.
func (s *Server) frame(of watch.EventType, o runtime.Object) ([]byte, error) {
	var raw, framed bytes.Buffer
	if err := s.media.Serializer.Encode(o, &raw); err != nil {
		return nil, err
	}
	stream := s.media.StreamSerializer
	err := stream.Serializer.Encode(&metav1.WatchEvent{Type: string(of), Object: runtime.RawExtension{Raw: raw.Bytes()}}, stream.Framer.NewFrameWriter(&framed))
	return framed.Bytes(), err
}

// ServeHTTP answers a list or a watch.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k := s.kinds[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	switch {
	case k == nil || r.Method != http.MethodGet:
		http.Error(w, "this server lists and watches services, endpointslices and nodes", http.StatusNotFound)
	case r.URL.Query().Has("watch"):
		s.watch(w, r, k)
	default:
		s.list(w, r, k)
	}
}

// list answers with all objects, in one page.
func (s *Server) list(w http.ResponseWriter, r *http.Request, k *kind) {
	list := k.empty()
	s.mu.Lock()
	err := meta.SetList(list, k.items(r.URL.Query().Get("fieldSelector")))
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	list.(metav1.ListInterface).SetResourceVersion(version)
	w.Header().Set("Content-Type", s.media.MediaType)
	_ = s.media.Serializer.Encode(list, w) // an error is that of a client that has left
}

// watch sends the events after a version until the client leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, k *kind) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", s.media.MediaType+";stream=watch")
	_ = http.NewResponseController(w).Flush()
	for {
		s.mu.Lock()
		changed := k.changed
		at, _ := slices.BinarySearchFunc(k.events, from+1, func(e event, version int) int { return e.version - version })
		due := slices.Clip(k.events[at:])
		s.mu.Unlock()
		for _, e := range due {
			if _, err := w.Write(e.frame); err != nil {
				return
			}
			from = e.version
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// items returns the objects of a kind. The only selector is that of one name.
func (k *kind) items(selector string) []runtime.Object {
	only, isOnly := strings.CutPrefix(selector, "metadata.name=")
	all := make([]runtime.Object, 0, len(k.objects))
	for _, o := range k.objects {
		if !isOnly || o.GetName() == only {
			all = append(all, o)
		}
	}
	return all
}

// scheme has the kinds that there are.
func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Service{}, &corev1.ServiceList{}, &corev1.Node{}, &corev1.NodeList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, discoveryv1.SchemeGroupVersion)
	return s
}
