// Package cluster keeps a Store of objects as a Kubernetes API server has them, and writes the status of Services of type LoadBalancer.
package cluster

import (
	_ "k8s.io/client-go/rest"
	_ "k8s.io/client-go/tools/cache"
	_ "k8s.io/client-go/tools/clientcmd"
)
