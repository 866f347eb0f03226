// Package deploy has the manifests that run usher on each node of a cluster, in place of kube-proxy.
package deploy

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// manifests have ${NAME} where clusters differ.
//
//go:embed usher.yaml
var manifests string

// note stands above the manifests if no API server is named.
const note = `
#
# The API server is asked at the ClusterIP of the Service "kubernetes", which usher itself may be the one to serve. Name
# an address that does without: usher kube --print-manifests --api-server HOST:PORT`

// status is the rule of usher's role for addresses of Services of type LoadBalancer.
const status = `
- apiGroups: [""]
  resources: [services/status] # addresses of Services of type LoadBalancer
  verbs: [patch]`

// server are the variables of HOST and PORT of the API server.
const server = `
        - {name: KUBERNETES_SERVICE_HOST, value: %s}
        - {name: KUBERNETES_SERVICE_PORT, value: %s}`

// probes are those at the port of /healthz and /livez.
const probes = `
        ports:
        - {name: healthz, containerPort: %s}
        livenessProbe:
          httpGet: {path: /livez, port: healthz}
          timeoutSeconds: 5
        readinessProbe:
          httpGet: {path: /healthz, port: healthz}
          timeoutSeconds: 5`

// Options are what differs between clusters.
type Options struct {
	Image string // has usher at /usher
	// APIServer is HOST:PORT of the API server that nodes reach without a Service; empty: its ClusterIP.
	APIServer string
	Args      []string // of usher kube
	AssignsLB bool     // Args let usher write the status of Services
	// HealthzPort is that of /healthz and /livez; empty: there are no probes.
	HealthzPort string
	Drain       time.Duration // how long flows may go on at the end
}

// graceBeyond is how much longer than its flows a pod has to end.
const graceBeyond = 10 * time.Second

// Print writes the manifests as YAML.
func Print(w io.Writer, o Options) error {
	if o.Image == "" {
		return errors.New("the manifests need an image that has usher at /usher")
	}
	values := map[string]string{
		"image": quote(o.Image), "note": note, "args": list("args", o.Args), "drain": o.Drain.String(),
		"grace": strconv.Itoa(int(math.Ceil((o.Drain + graceBeyond).Seconds()))),
	}
	if o.APIServer != "" {
		host, port, err := net.SplitHostPort(o.APIServer)
		if err != nil || host == "" || port == "" {
			return fmt.Errorf("the API server %q is not HOST:PORT", o.APIServer)
		}
		values["note"], values["server"] = "", fmt.Sprintf(server, quote(host), quote(port))
	}
	if o.AssignsLB {
		values["status"] = status
	}
	if o.HealthzPort != "" {
		values["probes"] = fmt.Sprintf(probes, o.HealthzPort)
	}
	_, err := io.WriteString(w, os.Expand(manifests, func(name string) string { return values[name] }))
	return err
}

// list is a field of the container with a list of words, unless there is none.
func list(field string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n        %s:", field)
	for _, word := range words {
		text.WriteString("\n        - " + quote(word))
	}
	return text.String()
}

// quote returns a word in JSON, which YAML has too.
func quote(word string) string {
	text, _ := json.Marshal(word) // a string has no error
	return string(text)
}
