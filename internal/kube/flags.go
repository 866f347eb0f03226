package kube

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"usher/internal/command"
	"usher/internal/config"
	"usher/internal/kube/clusterip"
	"usher/internal/kube/deploy"
)

// help is above the flags of the page usher help kube.
const help = `  usher kube --manifests FOLDER --dns 127.0.0.1:5300      Services, EndpointSlices and Nodes of YAML files
  usher kube --kubeconfig ~/.kube/config                  those of a cluster
  usher kube --print-manifests | kubectl apply -f -       on each node of a cluster, as an ordinary user

Each port of a Service is a service of usher, NAMESPACE/NAME[:PORT], that usher ls, flows and events show. One for clients
from outside the cluster ends in /external, where they have endpoints of their own. Without an endpoint a port is closed.
ClusterIPs are listened on as they are where this host routes them to itself (ip route add local CIDR dev lo), else on
127.0.0.0/8: a.b.c.d at 127.b.c.d, with ports below 1024 raised by 10000 if usher may not bind them. usher ls -o wide shows it.
All flags of usher's process are flags of usher kube too. Options of services are those of every Service: --scheduler lc;
annotations set those of one, above the flags, and max of each of its endpoints:

  usher.dev/scheduler: lc      usher.dev/health: http:/ready      usher.dev/max: "100"      usher.dev/wait: 30s

Health checks are off by default, as the kubelet has its own.
`

// imageDefault is an image that was built and loaded by hand: none is published.
const imageDefault = "usher:local"

// sourceFlags are the flags of the command itself.
func sourceFlags() []command.SourceFlag {
	return []command.SourceFlag{
		{Name: "kubeconfig", Form: "FILE", Help: "names the API server and the credentials; default: the service account of the pod"},
		{Name: "context", Form: "NAME", Help: "one of the file's contexts; default: the current one"},
		{Name: "manifests", Form: "PATH", Help: "a folder of YAML or JSON files in place of an API server, followed as it changes"},
		{Name: "node", Form: "NAME", Help: "the Node that usher runs on; default: $NODE_NAME, else the host's name if a Node has it"},
		{Name: "cluster-ips", Form: strings.Join(clusterip.Modes(), "|"), Help: "where ClusterIPs are listened on; default: auto"},
		{Name: "nodeport-addresses", Form: "CIDR,...", Help: "which addresses of this host have node ports; default: all on a node, else 127.0.0.1 and ::1"},
		{Name: "external-ips", Help: "serves the externalIPs of Services: whoever may create one could take any address", IsSwitch: true},
		{Name: "assign-lb", Form: "CIDR", Help: "gives each LoadBalancer an address of these, such as 127.10.0.0/16, and writes it into its status"},
		{Name: "dns", Form: "ADDR", Help: "serves the names of Services over UDP and TCP: IP:PORT, IP (port 53), :PORT or PORT"},
		{Name: "dns-upstream", Form: "ADDR,...", Help: "name servers for all other names; default: those of /etc/resolv.conf"},
		{Name: "resolv-conf", Form: "FILE", Help: "writes a resolv.conf that asks --dns"},
		{Name: "cluster-domain", Form: "NAME", Help: "default: cluster.local"},
		{Name: "healthz-bind-address", Form: "ADDR", Help: "serves /healthz and /livez; default on a node: " + healthzDefault + "; off: nowhere"},
		{Name: "metrics-bind-address", Form: "ADDR", Help: "serves /metrics and /proxyMode; default on a node: " + metricsDefault + "; off: nowhere"},
		{Name: "print-manifests", Help: "prints what deploys usher kube on each node of a cluster", IsSwitch: true},
		{Name: "image", Form: "IMAGE", Help: "of usher, for --print-manifests; default: " + imageDefault},
		{Name: "api-server", Form: "HOST:PORT", Help: "for --print-manifests: where nodes reach the API server without its Service"},
	}
}

// printManifests prints the manifests of a deployment that runs usher kube with the other words.
func printManifests(words command.SourceWords, w io.Writer) error {
	o, err := deployment(words)
	if err != nil {
		return err
	}
	return deploy.Print(w, o)
}

// deployment returns what words make of the manifests.
func deployment(words command.SourceWords) (deploy.Options, error) {
	v := words.Values
	o := deploy.Options{Image: cmp.Or(v["image"], imageDefault), APIServer: v["api-server"], AssignsLB: v["assign-lb"] != ""}
	for _, f := range sourceFlags() {
		value, is := v[f.Name]
		switch {
		case !is || slices.Contains([]string{"print-manifests", "image", "api-server"}, f.Name):
		case slices.Contains([]string{"kubeconfig", "context", "manifests", "node", "resolv-conf"}, f.Name):
			return o, fmt.Errorf("--%s is not for a pod of a cluster: leave it out with --print-manifests", f.Name)
		case f.IsSwitch:
			o.Args = append(o.Args, "--"+f.Name)
		default:
			o.Args = append(o.Args, "--"+f.Name+"="+value)
		}
	}
	s, err := readWords(words)
	if err != nil {
		return o, err
	}
	_, o.HealthzPort, _ = net.SplitHostPort(s.Healthz)
	process := config.DefaultProcess()
	for _, option := range words.Process {
		if slices.Contains([]string{"admin-token-file", "watch-config"}, option.Name) {
			return o, fmt.Errorf("--%s is about a file of this machine: leave it out with --print-manifests", option.Name)
		}
		if option.Name == "drain-timeout" {
			if err := process.Set(config.Field(option.Name), option.Value); err != nil {
				return o, err
			}
		}
	}
	if words.File != "" {
		return o, errors.New("--config names a file of this machine: leave it out with --print-manifests")
	}
	o.Drain = process.Drain(false)
	for _, option := range slices.Concat(words.Options, words.Process) {
		o.Args = append(o.Args, "--"+option.Name+"="+option.Value)
	}
	return o, nil
}
