// Package cluster keeps a Store of objects as a Kubernetes API server has them, and writes the status of Services of
// type LoadBalancer.
//
//	API server ─ list, watch ─▶ Reflector of each kind ─▶ sink: trim, compare ─▶ objects.Store
//	                                └─▶ availability: one line when the server is lost, one when it is back
//
// A server that cannot be reached changes nothing. The last state stands until a new list replaces it.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"usher/internal/kube/objects"
)

// Options say which API server is watched, and as whom.
type Options struct {
	// Kubeconfig is a file that names the server and the credentials; empty: the service account of the pod that usher
	// runs in.
	Kubeconfig string
	// Context is one of those in the file; empty: the current one.
	Context string
	// Node is the only Node that is watched; empty: all of them are.
	Node      string
	UserAgent string
	Log       *zap.Logger
}

// Cluster is the client of an API server.
type Cluster struct {
	server string
	http   *http.Client
	core   rest.Interface
	kinds  []*kind
	health *availability
	log    *zap.Logger
	// backoff has the pauses between requests that fail.
	backoff wait.Backoff
	// store is that of Run, and nil before.
	store atomic.Pointer[objects.Store]
}

// Open reads the configuration of the client. It sends no request.
func Open(o Options) (*Cluster, error) {
	silence()
	config, err := configOf(o)
	if err != nil {
		return nil, err
	}
	return open(config, o)
}

// Server returns the URL of the API server.
func (c *Cluster) Server() string { return c.server }

// Run keeps the store as the API server says, until ctx ends. It calls synced once, when the store has all objects of
// all kinds. A server that refuses or fails is logged and asked again, so the error is nil.
func (c *Cluster) Run(ctx context.Context, store *objects.Store, synced func()) error {
	c.store.Store(store)
	ctx = quiet(ctx)
	var left atomic.Int32
	left.Store(int32(len(c.kinds)))
	var followers sync.WaitGroup
	for _, k := range c.kinds {
		listed := sync.OnceFunc(func() {
			if left.Add(-1) == 0 {
				c.health.synced()
				synced()
			}
		})
		followers.Go(func() { c.follow(ctx, k, k.sink(store, listed), listed) })
	}
	followers.Wait()
	c.closeIdle()
	return nil
}

// open makes the clients of both API groups. They share their connections.
func open(config *rest.Config, o Options) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = o.UserAgent
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.QPS, config.Burst = 50, 100 // the server has fairness of its own
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client of API server %s: %w", config.Host, err)
	}
	c := &Cluster{
		server:  config.Host,
		http:    client,
		health:  newAvailability(config.Host, o.Log),
		log:     o.Log,
		backoff: wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 15 * time.Second},
	}
	if c.core, err = groupClient(config, client, coreGroup); err != nil {
		return nil, err
	}
	discovery, err := groupClient(config, client, discoveryGroup)
	if err != nil {
		return nil, err
	}
	c.kinds = kindsOf(c.core, discovery, o.Node)
	return c, nil
}
