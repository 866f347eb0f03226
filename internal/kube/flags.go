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
const help = `  usher kube --manifests FOLDER --dns 127.0.0.1:5300
          Services, EndpointSlices and Nodes of YAML files; no cluster is needed
  usher kube --kubeconfig ~/.kube/config
          those of a cluster
  usher kube --print-manifests | kubectl apply -f -
          on each node of a cluster, in place of kube-proxy, without privilege

Each port of a Service is a service of usher. Its name NAMESPACE/NAME[:PORT] is
a word of usher ls, flows, drain and all others. Clients of IPv6 have a service
/ipv6, and those from outside the cluster a service /external, where they have
other endpoints. /loadbalancer is for those of loadBalancerSourceRanges.
Without an endpoint a port is closed: the kernel refuses its clients.

ClusterIPs are listened on as they are where this host routes them to itself
(as root: ip route add local CIDR dev lo). Elsewhere a.b.c.d is at 127.b.c.d,
and an address of IPv6 at one of 127.0.0.0/8 that is made of it. There, ports
that usher may not bind are raised by 10000 (sysctl
net.ipv4.ip_unprivileged_port_start). usher ls -o wide shows both. --dns answers
with the addresses that usher listens on, and in SRV records with the ports.

The flags of usher --help are flags of usher kube too, without --listen,
--backend and --reserve. Options of services are those of all Services, unless
an annotation usher.dev/OPTION sets another value for one:

  usher.dev/scheduler: lc        usher.dev/wait: 30s
  usher.dev/persist: 10m         usher.dev/health: http:/ready
  usher.dev/send-proxy: v2       usher.dev/max: "100"  (of each endpoint)

Health checks are off by default, as the kubelet has its own. Programs and files
of the node (health exec: and ca=) are for --health alone.

A Service that cannot be had, as its port is in use, holds up no other. The log
and usher events say why, and usher tries again.
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
