package names

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// HostConfig is what a resolv.conf says.
type HostConfig struct {
	Servers []netip.AddrPort
	Search  []string
	Options []string // such as edns0 or timeout:1
}

// ReadHostConfig reads a resolv.conf, such as that of the host.
func ReadHostConfig(path string) (HostConfig, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return HostConfig{}, err
	}
	said, err := dns.ClientConfigFromReader(bytes.NewReader(content))
	if err != nil {
		return HostConfig{}, fmt.Errorf("%s: %w", path, err)
	}
	config := HostConfig{Search: said.Search}
	for _, server := range said.Servers {
		if addr, err := netip.ParseAddr(server); err == nil {
			config.Servers = append(config.Servers, netip.AddrPortFrom(addr.Unmap(), dnsPort))
		}
	}
	for line := range strings.Lines(string(content)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "options" {
			config.Options = append(config.Options, words[1:]...)
		}
	}
	return config, nil
}

// ndots is how many dots a name needs to be asked as it is first. Kubernetes has 5, so that _http._tcp.web.default.svc
// is searched.
const ndots = "ndots:5"

// WriteResolvConf writes a resolv.conf that asks a server, and searches names as a pod of a namespace does, then as the
// host does. It replaces the file in one step. Resolvers ask port 53 alone, so a server at another port is an error.
func WriteResolvConf(path string, server netip.AddrPort, namespace, domain string, host HostConfig) error {
	if server.Port() != dnsPort {
		return fmt.Errorf("%s: it can't name port %d, resolvers ask port %d alone: listen with --dns 127.0.0.53 "+
			"(sysctl net.ipv4.ip_unprivileged_port_start=%d lets an ordinary user)", path, server.Port(), dnsPort, dnsPort)
	}
	addr := server.Addr()
	if addr.IsUnspecified() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	domain = strings.TrimSuffix(domain, ".")
	search := []string{namespace + ".svc." + domain, "svc." + domain, domain}
	for _, of := range host.Search {
		if !slices.Contains(search, of) { // the host's file may be an earlier one of these
			search = append(search, of)
		}
	}
	options := []string{ndots}
	for _, option := range host.Options {
		if !strings.HasPrefix(option, "ndots:") {
			options = append(options, option)
		}
	}
	content := fmt.Sprintf("# written by usher kube\nnameserver %s\nsearch %s\noptions %s\n",
		addr, strings.Join(search, " "), strings.Join(options, " "))
	return replaceFile(path, []byte(content))
}

// replaceFile writes a file that all may read, beside the old one, and puts it in its place.
func replaceFile(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
