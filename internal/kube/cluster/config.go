package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"

	"usher/internal/nearest"
)

// configOf returns the address of the API server and the credentials.
func configOf(o Options) (*rest.Config, error) {
	if o.Kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("this is no pod of a cluster: name a kubeconfig file or a folder of manifests")
		}
		if err != nil {
			return nil, fmt.Errorf("service account of this pod: %w", err)
		}
		return config, nil
	}
	if _, err := clientcmd.LoadFromFile(o.Kubeconfig); runtime.IsNotRegisteredError(err) {
		return nil, fmt.Errorf("kubeconfig %s: it has another object than a configuration of clients, as kubectl config view prints it", o.Kubeconfig)
	}
	load := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: o.Context})
	file, err := load.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	if err := checkContext(file, cmp.Or(o.Context, file.CurrentContext)); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	config, err := load.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	return config, nil
}

// checkContext returns why a context cannot be used. Errors of clientcmd do not name it.
func checkContext(file clientcmdapi.Config, name string) error {
	names := slices.Sorted(maps.Keys(file.Contexts))
	context := file.Contexts[name]
	switch {
	case len(names) == 0:
		return errors.New("there is no context in it")
	case name == "":
		return fmt.Errorf("there is no current context: choose one with --context (have %s)", strings.Join(names, ", "))
	case context == nil:
		return fmt.Errorf("unknown context %q%s", name, nearest.OrHave(name, names))
	case file.Clusters[context.Cluster] == nil:
		return fmt.Errorf("context %q: there is no cluster %q", name, context.Cluster)
	}
	return nil
}

// groupClient returns the client of one API group. Answers are asked for as protobuf.
func groupClient(config *rest.Config, client *http.Client, g group) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.APIPath = g.path
	config.GroupVersion = &g.version
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme()).WithoutConversion()
	r, err := rest.RESTClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("client of API server %s: %w", config.Host, err)
	}
	return r, nil
}

// scheme has the kinds that are watched, and no others: those of client-go double the binary.
func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Service{}, &corev1.ServiceList{}, &corev1.Node{}, &corev1.NodeList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, discoveryv1.SchemeGroupVersion)
	return s
}

func (c *Cluster) closeIdle() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// silence ends what client-go logs on its own. It logs to stderr, in its own format, each try anew. The logger is
// global to the process; setting it twice is harmless.
func silence() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
}

// quiet returns a context whose requests are not logged by client-go.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }
