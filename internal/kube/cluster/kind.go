package cluster

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"usher/internal/kube/objects"
)

const (
	// listTimeout bounds a list of all objects of a kind.
	listTimeout = 2 * time.Minute
	// watchGrace is how much later than the server the client ends a watch.
	watchGrace = 30 * time.Second
	// backoffReset is how long requests have to succeed until pauses are short again.
	backoffReset = 2 * time.Minute
	// earlyEnd is when a stream without an event counts as one that works.
	earlyEnd = time.Second
	// earlyStreams is how many streams in a row end at once until that is logged.
	earlyStreams = 3
)

var errEarly = errors.New("watch ended within a second, without an event")

// group is an API group in one version.
type group struct {
	path    string
	version schema.GroupVersion
}

var (
	coreGroup      = group{"/api", corev1.SchemeGroupVersion}
	discoveryGroup = group{"/apis", discoveryv1.SchemeGroupVersion}
)

// kind is a kind of objects that is watched in all namespaces.
type kind struct {
	resource string
	client   rest.Interface
	sample   runtime.Object
	selector fields.Selector
	// isOptional: a client that may not read the kind serves without it.
	isOptional bool
	sink       func(s *objects.Store, listed func()) cache.ReflectorStore
}

func kindsOf(core, discovery rest.Interface, node string) []*kind {
	nodes := fields.Everything()
	if node != "" {
		nodes = fields.OneTermEqualSelector(metav1.ObjectNameField, node)
	}
	return []*kind{
		{resource: "services", client: core, sample: &corev1.Service{}, selector: fields.Everything(), sink: serviceSink},
		{resource: "endpointslices", client: discovery, sample: &discoveryv1.EndpointSlice{}, selector: fields.Everything(), sink: sliceSink},
		{resource: "nodes", client: core, sample: &corev1.Node{}, selector: nodes, isOptional: true, sink: nodeSink},
	}
}

// follow keeps what is in a sink as the server has it, until ctx ends.
func (c *Cluster) follow(ctx context.Context, k *kind, sink cache.ReflectorStore, listed func()) {
	source := &source{kind: k, health: c.health}
	r := cache.NewReflectorWithOptions(source, k.sample, sink, cache.ReflectorOptions{Name: k.resource, Backoff: &c.backoff})
	pause := c.backoff.DelayWithReset(clock.RealClock{}, backoffReset)
	_ = pause.Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		err := r.ListAndWatchWithContext(ctx)
		if k.isOptional && apierrors.IsForbidden(err) {
			listed()
		}
		return false, nil
	})
}

// source lists and watches a kind, and says how that went.
type source struct {
	kind   *kind
	health *availability
	early  int // streams in a row that have ended at once; one stream at a time counts
}

// IsWatchListSemanticsUnSupported has the Reflector list, then watch: a list is smaller than a stream of all objects,
// and servers of any age answer it from memory.
func (s *source) IsWatchListSemanticsUnSupported() bool { return true }

// List is part of cache.ListerWatcher. The Reflector calls ListWithContext.
func (s *source) List(o metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), o)
}

// Watch is part of cache.ListerWatcher. The Reflector calls WatchWithContext.
func (s *source) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), o)
}

// ListWithContext returns all objects, or a page of them. The pauses between tries are those of follow.
func (s *source) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.FieldSelector = s.kind.selector.String()
	list, err := s.kind.client.Get().Resource(s.kind.resource).VersionedParams(&o, metav1.ParameterCodec).
		MaxRetries(0).Timeout(listTimeout).Do(ctx).Get()
	s.report(ctx, verbList, err)
	return list, err
}

// WatchWithContext returns the changes since a version. The client ends the stream if the server does not.
func (s *source) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	o.FieldSelector = s.kind.selector.String()
	limit := watchGrace
	if o.TimeoutSeconds != nil {
		limit += time.Duration(*o.TimeoutSeconds) * time.Second
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	w, err := s.kind.client.Get().Resource(s.kind.resource).VersionedParams(&o, metav1.ParameterCodec).MaxRetries(0).Watch(bounded)
	s.report(ctx, verbWatch, err)
	if err != nil {
		cancel()
		return nil, err
	}
	return newStream(bounded, cancel, w, s), nil
}

// report says how a request ended. One that asks for a version that the server has forgotten is repeated for another.
func (s *source) report(ctx context.Context, v verb, err error) {
	switch {
	case ctx.Err() != nil || isExpired(err):
	case err != nil:
		s.health.failed(s.kind.resource, v, err)
	default:
		s.health.succeeded(s.kind.resource, v)
	}
}

// endedEarly counts a stream that has ended at once. A server that restarts may end a few so.
func (s *source) endedEarly(ctx context.Context) {
	if s.early++; s.early >= earlyStreams {
		s.report(ctx, verbStream, errEarly)
	}
}

func isExpired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}
