package kube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// pod is an endpoint of a Deployment, in an EndpointSlice of its own: ports that the kernel chose differ.
type pod struct {
	name  string
	slice *discoveryv1.EndpointSlice
}

func newPod(t *testing.T, s site, name string) *pod {
	web, dns := "web", "dns"
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	tcpAt, udpAt := backendAt(t, s.host(), "tcp", name), backendAt(t, s.host(), "udp", name)
	tcpPort, udpPort := int32(tcpAt.Port()), int32(udpAt.Port())
	e := slice("web", tcp, tcpAt)
	e.Name = name
	e.Ports = []discoveryv1.EndpointPort{{Name: &web, Protocol: &tcp, Port: &tcpPort}, {Name: &dns, Protocol: &udp, Port: &udpPort}}
	return &pod{name, e}
}

// terminating returns the slice of a pod that ends, and still serves.
func (p *pod) terminating() *discoveryv1.EndpointSlice {
	yes, no := true, false
	e := p.slice.DeepCopy()
	e.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	return e
}

// rollout has 200 clients of a Deployment that is rolled out: with a connection for each question, with one that stays,
// and with a flow of UDP that stays.
type rollout struct {
	t        *testing.T
	tcp, udp string
	clients  []*rolloutClient
	running  sync.WaitGroup
}

type rolloutClient struct {
	asked atomic.Int64
	pod   atomic.Value // the name of the last one that answered
}

func (c *rolloutClient) got(pod string) {
	c.pod.Store(pod)
	c.asked.Add(1)
}

// run starts clients until ctx ends. A client that fails is an error, and the last thing that it does.
func (r *rollout) run(ctx context.Context, n int, client func(context.Context, *rolloutClient) error) {
	for range n {
		c := new(rolloutClient)
		r.clients = append(r.clients, c)
		r.running.Go(func() {
			if err := client(ctx, c); err != nil {
				r.t.Error(err)
				c.asked.Store(1 << 40) // nobody waits for it
			}
		})
	}
}

func (r *rollout) short(ctx context.Context, c *rolloutClient) error {
	for ctx.Err() == nil {
		name, err := ask("tcp", r.tcp)
		if err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		c.got(name)
	}
	return nil
}

func (r *rollout) long(ctx context.Context, c *rolloutClient) error {
	conn, err := net.DialTimeout("tcp", r.tcp, patience)
	if err != nil {
		return fmt.Errorf("a long connection: %w", err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	name, err := lines.ReadString('\n')
	for err == nil && ctx.Err() == nil {
		c.got(strings.TrimSpace(name))
		time.Sleep(time.Millisecond)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, "hello\n")
		_, err = lines.ReadString('\n')
	}
	if err != nil {
		return fmt.Errorf("a connection to %s is cut after %d answers: %w", strings.TrimSpace(name), c.asked.Load(), err)
	}
	return nil
}

// datagrams asks again after a while: the answer of an endpoint that is removed right then is lost.
func (r *rollout) datagrams(ctx context.Context, c *rolloutClient) error {
	conn, err := net.Dial("udp", r.udp)
	if err != nil {
		return err
	}
	defer conn.Close()
	buffer := make([]byte, 100)
	for last := time.Now(); ctx.Err() == nil; {
		_, _ = io.WriteString(conn, "hello")
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := conn.Read(buffer)
		switch {
		case err == nil:
			c.got(string(buffer[:n]))
			last = time.Now()
			time.Sleep(time.Millisecond)
		case time.Since(last) > patience:
			return fmt.Errorf("a flow of datagrams gets no answer: %w", err)
		}
	}
	return nil
}

// round waits until each client has asked twice.
func (r *rollout) round(step string) {
	r.t.Helper()
	from := make([]int64, len(r.clients))
	for i, c := range r.clients {
		from[i] = c.asked.Load()
	}
	deadline := time.Now().Add(2 * patience)
	for i, c := range r.clients {
		for c.asked.Load() < from[i]+2 {
			if time.Now().After(deadline) {
				r.t.Fatalf("%s: client %d of %d has no answer", step, i, len(r.clients))
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// rollingUpdate replaces four pods, one after the other. Each state lasts until all clients have come in it.
func rollingUpdate(t *testing.T, s site) {
	const pods, shorts, longs, flows = 4, 80, 60, 60
	ip := s.clusterIP()
	o := service("web", ip, 18080, corev1.ProtocolTCP)
	o.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 18080}, {Name: "dns", Port: 18080, Protocol: corev1.ProtocolUDP}}
	s.set(t, o)
	var old []*pod
	for i := range pods {
		p := newPod(t, s, fmt.Sprint("old-", i))
		old = append(old, p)
		s.set(t, p.slice)
	}
	at := listenOf(t, s.controller(), ip, 18080)
	await(t, "tcp", at, is("old-3"))
	await(t, "udp", at, is("old-3"))
	ctx, cancel := context.WithCancel(t.Context())
	r := &rollout{t: t, tcp: at, udp: at}
	defer r.running.Wait()
	defer cancel()
	r.run(ctx, shorts, r.short)
	r.run(ctx, longs, r.long)
	r.run(ctx, flows, r.datagrams)
	r.round("all are ready")
	for i, p := range old {
		s.set(t, newPod(t, s, fmt.Sprint("new-", i)).slice)
		r.round("one more is ready")
		s.set(t, p.terminating())
		r.round("one terminates")
		s.remove(t, p.slice)
		r.round("it is gone")
		for _, c := range r.clients[shorts+longs:] {
			for deadline := time.Now().Add(patience); c.pod.Load() == p.name; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("a flow of datagrams is still answered by %s, which is gone", p.name)
				}
			}
		}
	}
	for i, c := range r.clients[:shorts] {
		if name := c.pod.Load().(string); !strings.HasPrefix(name, "new-") {
			t.Errorf("client %d was answered by %s last", i, name)
		}
	}
}

// A Deployment that is rolled out fails no connect and cuts no connection. Flows of datagrams leave what is removed.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	rollingUpdate(t, live(t))
}
