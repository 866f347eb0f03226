// Package deploy has the manifests that run usher on each node of a cluster, in place of kube-proxy.
package deploy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"text/template"
	"time"
)

//go:embed usher.yaml
var manifests string

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

// page is what the template reads.
type page struct {
	Options
	Host, Port string // of APIServer
	Grace      int    // seconds until the pod is killed
}

// graceBeyond is how much longer than its flows a pod has to end.
const graceBeyond = 10 * time.Second

// Print writes the manifests as YAML.
func Print(w io.Writer, o Options) error {
	if o.Image == "" {
		return errors.New("the manifests need an image that has usher at /usher")
	}
	p := page{Options: o, Grace: int(math.Ceil((o.Drain + graceBeyond).Seconds()))}
	if o.APIServer != "" {
		var err error
		if p.Host, p.Port, err = net.SplitHostPort(o.APIServer); err != nil || p.Host == "" || p.Port == "" {
			return fmt.Errorf("the API server %q is not HOST:PORT", o.APIServer)
		}
	}
	t, err := template.New("usher.yaml").Funcs(template.FuncMap{"json": quote}).Parse(manifests)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

// quote returns a word in JSON, which YAML has too.
func quote(word string) (string, error) {
	text, err := json.Marshal(word)
	return string(text), err
}
