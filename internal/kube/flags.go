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
          those of a cluster, on a machine that reaches its pods
  usher kube --print-manifests | kubectl apply -f -
          on each node of a cluster, in place of kube-proxy, without privilege

usher serves ClusterIPs, node ports, addresses of load balancers and, with
--external-ips, externalIPs, over TCP and UDP, of both families. It chooses
endpoints as kube-proxy does: by readiness, traffic policies, topology hints and
session affinity. An endpoint that terminates keeps its flows and gets no new
ones. If an endpoint refuses a connect, usher tries the next one.

Each port of a Service is a service of usher. Its name NAMESPACE/NAME[:PORT] is
a word of usher ls, flows, drain and all others. Where they have other
endpoints, clients of IPv6 have a service of their own, NAME/ipv6, and clients
from outside of the cluster NAME/external. NAME/loadbalancer is for the clients
in loadBalancerSourceRanges.

Without an endpoint a port is closed: the kernel refuses its clients. Clients
get no answer where the policy Local has no local endpoint, and outside of
loadBalancerSourceRanges.

ClusterIPs are listened on as they are where this host routes them to itself.
That takes root once after each boot, as do ports below 1024. In a rootless
cluster root of the node's user namespace is enough:

  ip route add local 10.96.0.0/16 dev lo       the service CIDR of the cluster
  sysctl -w net.ipv4.ip_unprivileged_port_start=0

Elsewhere a.b.c.d is at 127.b.c.d, for processes of this host alone, and an
address of IPv6 at one of 127.0.0.0/8 that is made of it. There, ports that
usher may not bind are raised by 10000. usher ls -o wide shows both.

--dns serves A, AAAA, SRV, PTR and CNAME records of Services, over UDP and TCP,
with the addresses and ports that usher listens on. Other names it passes on.

The flags of usher --help are flags of usher kube too, without --listen,
--backend and --reserve. Options of services are those of all Services, unless
an annotation usher.dev/OPTION sets another value for one:

  usher.dev/scheduler: lc        usher.dev/wait: 30s
  usher.dev/persist: 10m         usher.dev/health: http:/ready
  usher.dev/send-proxy: v2       usher.dev/max: "100"  (of each endpoint)
  usher.dev/queue: 50,5s         usher.dev/allow: 10.0.0.0/8

With wait, clients of a Service without an endpoint wait until there is one.
Health checks are off by default, as the kubelet has its own. Programs and files
of the node (health exec: and ca=) are for --health alone.

A Service that cannot be had, as its port is in use, holds up no other. The log
and usher events say why, and usher tries again. If the API server is gone,
usher goes on with what it knows. usher upgrade keeps all flows.

On a node, :10256 has /healthz and /livez, and 127.0.0.1:10249 has /metrics and
/proxyMode, as kube-proxy has them; metrics have its names beside usher's own.
Above 5,000 backends those of single ones are left out. The ports of
healthCheckNodePort answer as those of kube-proxy do.

A folder for --manifests, for which curl 127.96.0.10:8080 reaches port 9001:

  apiVersion: v1
  kind: Service
  metadata:
    name: web
    annotations: {usher.dev/scheduler: lc, usher.dev/wait: 30s}
  spec: {clusterIP: 10.96.0.10, ports: [{port: 8080}]}
  ---
  apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{port: 9001}]
  endpoints: [{addresses: [127.0.0.1]}]

The DaemonSet of --print-manifests is not root, and has no capability and a
read-only root. kube-proxy must be off. internal/kube/deploy/README.md says how,
for kind, k3s and kubeadm.

Limits: pods see the node as the client, also under the external policy Local,
unless they read PROXY v2. SCTP is not served. Pods do not reach a ClusterIP at
127.0.0.0/8. Where the host routes ClusterIPs to itself, a program that listens
on all addresses is at each ClusterIP too, and no Service can have its port.
Each address and port of a Service takes a descriptor a worker.
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
