package kube

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"usher/internal/app"
	"usher/internal/command"
	"usher/internal/config"
	"usher/internal/kube/assign"
	"usher/internal/kube/clusterip"
	"usher/internal/kube/names"
	"usher/internal/kube/planner"
)

// settings are what a command line asks for, in its words. They are read again in each process image.
type settings struct {
	Kubeconfig, Context string
	Manifests           string
	Node                string // a name that was given
	ClusterIPs          clusterip.Mode
	NodePortAddresses   string // CIDRs; empty: the default
	ExternalIPs         bool
	DNS, DNSUpstream    string
	ResolvConf          string
	ClusterDomain       string
	Healthz, Metrics    string // HOST:PORT; empty: none
	AssignLB            string // a CIDR; empty: none
	Options             []planner.Option
}

// Addresses of kube-proxy's faces.
const (
	healthzDefault = ":10256" // of both families
	metricsDefault = "127.0.0.1:10249"
	off            = "off"
)

// Command returns the command usher kube.
func Command() command.Source {
	return command.Source{
		Name: name, Usage: "serves Services of Kubernetes as kube-proxy does, without privilege",
		Help: help, Flags: sourceFlags(), Open: open, Restore: restore,
	}
}

// open reads the words of a command line.
func open(words command.SourceWords, w io.Writer) (app.Source, error) {
	if err := checkWords(words); err != nil {
		return nil, err
	}
	if words.Values["print-manifests"] != "" {
		return nil, printManifests(words, w)
	}
	for _, flag := range []string{"image", "api-server"} {
		if words.Values[flag] != "" {
			return nil, fmt.Errorf("--%s has no effect without --print-manifests", flag)
		}
	}
	s, err := readSettings(words)
	if err != nil {
		return nil, err
	}
	return &source{settings: s}, nil
}

// checkWords finds words that lack their value, or that no Service can be served with.
func checkWords(words command.SourceWords) error {
	for _, f := range sourceFlags() {
		if value, is := words.Values[f.Name]; is && value == "" && !f.IsSwitch {
			return fmt.Errorf("--%s is empty", f.Name)
		}
	}
	for _, o := range words.Options {
		if o.Name == "on-empty" && o.Value == "off" {
			return errors.New("--on-empty off: a Service may always be without an endpoint: give close, drop or refuse")
		}
	}
	return nil
}

func readSettings(words command.SourceWords) (settings, error) {
	s, err := readWords(words)
	if err == nil {
		err = s.readOrigin()
	}
	return s, err
}

// readWords reads all words but those about the place where objects come from, which it takes as they are.
func readWords(words command.SourceWords) (settings, error) {
	v := words.Values
	s := settings{
		Kubeconfig: v["kubeconfig"], Context: v["context"], Manifests: v["manifests"], Node: v["node"],
		ClusterIPs: clusterip.Auto, NodePortAddresses: v["nodeport-addresses"], ExternalIPs: v["external-ips"] == "true",
		DNS: v["dns"], DNSUpstream: v["dns-upstream"], ResolvConf: v["resolv-conf"], ClusterDomain: "cluster.local",
		AssignLB: v["assign-lb"],
	}
	if s.Node == "" {
		s.Node = os.Getenv("NODE_NAME")
	}
	for _, o := range words.Options {
		if o.Name == "reserve" {
			return s, errors.New("--reserve is not for kube: for many Services it would be more flows than there are")
		}
		s.Options = append(s.Options, planner.Option{Name: config.Field(o.Name), Value: o.Value})
	}
	for _, read := range []func(map[string]string) error{s.readAddresses, s.readNames, s.readFaces} {
		if err := read(v); err != nil {
			return s, err
		}
	}
	return s, nil
}

// readOrigin finds the one place where objects come from.
func (s *settings) readOrigin() error {
	_, isPod := os.LookupEnv("KUBERNETES_SERVICE_HOST")
	switch {
	case s.Manifests != "" && s.Kubeconfig != "":
		return errors.New("--manifests and --kubeconfig are two sources: give one of them")
	case s.Manifests != "" && s.Context != "":
		return errors.New("--context has no effect with --manifests: it is one of --kubeconfig FILE")
	case s.Manifests == "" && s.Kubeconfig == "" && !isPod:
		return errors.New("kube lacks its source, as this is no pod of a cluster: give --kubeconfig FILE (such as ~/.kube/config) or --manifests FOLDER")
	case s.Kubeconfig == "" && s.Context != "":
		return errors.New("--context has no effect without --kubeconfig FILE")
	}
	return nil
}

// readAddresses checks where Services are listened on.
func (s *settings) readAddresses(v map[string]string) (err error) {
	if word, is := v["cluster-ips"]; is {
		if s.ClusterIPs, err = clusterip.ParseMode(word); err != nil {
			return fmt.Errorf("--cluster-ips %s: %w", word, err)
		}
	}
	if _, err := parsePrefixes(s.NodePortAddresses); err != nil {
		return fmt.Errorf("--nodeport-addresses %s: %w", s.NodePortAddresses, err)
	}
	if s.AssignLB != "" {
		prefix, err := netip.ParsePrefix(s.AssignLB)
		if err != nil {
			return fmt.Errorf("--assign-lb %s: it is not a CIDR such as 127.10.0.0/16", s.AssignLB)
		}
		if _, err := assign.New(prefix); err != nil {
			return fmt.Errorf("--assign-lb %s: %w", s.AssignLB, err)
		}
	}
	return nil
}

// readNames checks what is about DNS.
func (s *settings) readNames(v map[string]string) error {
	if word, is := v["cluster-domain"]; is {
		s.ClusterDomain = word
	}
	if _, err := names.New(s.ClusterDomain); err != nil {
		return fmt.Errorf("--cluster-domain: %w", err)
	}
	for _, flag := range []string{"dns-upstream", "resolv-conf"} {
		if v[flag] != "" && s.DNS == "" {
			return fmt.Errorf("--%s has no effect without --dns ADDR", flag)
		}
	}
	if s.DNS != "" {
		if _, err := names.ParseAddr(s.DNS); err != nil {
			return fmt.Errorf("--dns: %w", err)
		}
	}
	if s.DNSUpstream != "" {
		if _, err := names.ParseUpstreams(s.DNSUpstream); err != nil {
			return fmt.Errorf("--dns-upstream: %w", err)
		}
	}
	return nil
}

// readFaces finds where kube-proxy's faces are. They are served by default where a kubelet or a load balancer asks: on a
// node of a cluster.
func (s *settings) readFaces(v map[string]string) error {
	if s.Manifests == "" && (s.Kubeconfig == "" || s.Node != "") {
		s.Healthz, s.Metrics = healthzDefault, metricsDefault
	}
	for _, face := range []struct {
		flag, example string
		to            *string
	}{{"healthz-bind-address", healthzDefault, &s.Healthz}, {"metrics-bind-address", metricsDefault, &s.Metrics}} {
		switch word, is := v[face.flag]; {
		case !is:
		case word == off:
			*face.to = ""
		case !isHostPort(word):
			return fmt.Errorf("--%s %s: it is an address with a port, such as %s, or off", face.flag, word, face.example)
		default:
			*face.to = word
		}
	}
	return nil
}

// isHostPort reports whether a word is an address with a port. The host may be localhost, or empty for all addresses.
func isHostPort(word string) bool {
	host, port, err := net.SplitHostPort(word)
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	_, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil
}

// parsePrefixes reads a list of CIDRs with commas between them.
func parsePrefixes(list string) (all []netip.Prefix, err error) {
	if list == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(word))
		if addr, isAddr := netip.ParseAddr(strings.TrimSpace(word)); err != nil && isAddr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/8", word)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

// node returns the name of the node that usher runs on, and whether it was given. One that was not is the name of the
// host, and counts if there is such a Node.
func (s *settings) node() (node string, isGiven bool) {
	if s.Node != "" {
		return s.Node, true
	}
	host, err := os.Hostname()
	if err != nil {
		return "", false
	}
	return strings.ToLower(host), false
}
