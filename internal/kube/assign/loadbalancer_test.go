package assign

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/planner"
)

// TestFor: which Services get an address of the pool 127.10.0.0/29, that has six of them, while b has 127.10.0.2.
func TestFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*corev1.Service)
		want   string // an address, "any", or "" for none
		err    string
	}{
		"type LoadBalancer":      {change: func(*corev1.Service) {}, want: "any"},
		"another type":           {change: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }},
		"class of usher":         {change: func(s *corev1.Service) { s.Spec.LoadBalancerClass = new(class) }, want: "any"},
		"class of others":        {change: func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") }},
		"asks for one":           {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "127.10.0.5" }, want: "127.10.0.5"},
		"asks for one mapped":    {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "::ffff:127.10.0.5" }, want: "127.10.0.5"},
		"asks for another's":     {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "127.10.0.2" }, err: "default/b has 127.10.0.2"},
		"asks for the network":   {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "127.10.0.0" }, err: "127.10.0.0 is not one of"},
		"asks for the broadcast": {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "127.10.0.7" }, err: "127.10.0.7 is not one of"},
		"asks for a foreign one": {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "10.0.0.1" }, err: "10.0.0.1 is not one of"},
		"asks for nonsense":      {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "web" }, want: "any"},
		"has one":                {change: withStatus("127.10.0.6"), want: "127.10.0.6"},
		"has another's":          {change: withStatus("127.10.0.2"), want: "127.10.0.2"},
		"has that of one before": {change: withStatus("127.10.0.3"), want: "any"},
		"has what another asks":  {change: withStatus("127.10.0.4"), want: "any"},
		"has one of before":      {change: withStatus("127.20.0.6"), want: "any"},
		"is served elsewhere":    {change: withStatus("192.0.2.1")},
		"is served by a name": {change: func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
		}},
		"IPv6":       {change: func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }},
		"dual stack": {change: func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6", "IPv4"} }, want: "any"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := New(netip.MustParsePrefix("127.10.0.0/29"))
			if err != nil {
				t.Fatal(err)
			}
			l.Claim(keyOf("b"), service(withStatus("127.10.0.2")))
			l.Claim(keyOf("Z"), service(withStatus("127.10.0.3")))
			if _, err := l.For(keyOf("c"), service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "127.10.0.4" })); err != nil {
				t.Fatal(err)
			}
			got, err := l.For(keyOf("a"), service(test.change))
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, not %q", err, test.err)
			}
			isAny := test.want == "any" && l.Prefix().Contains(got) && !slices.Contains([]string{"127.10.0.2", "127.10.0.3", "127.10.0.4"}, got.String())
			if !isAny && got.IsValid() != (test.want != "") || !isAny && test.want != "" && got.String() != test.want {
				t.Errorf("got %s, not %q", got, test.want)
			}
			if again, _ := l.For(keyOf("a"), service(test.change)); again != got {
				t.Errorf("then %s after %s", again, got)
			}
		})
	}
}

// TestForChange: an address follows the Service, and is free for others when that is gone or has another type.
func TestForChange(t *testing.T) {
	t.Parallel()
	l, err := New(netip.MustParsePrefix("fd00::/127"))
	if err != nil {
		t.Fatal(err)
	}
	plain, asking := service(), service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "fd00::1" })
	first, err := l.For(keyOf("a"), plain)
	second, err2 := l.For(keyOf("b"), plain)
	if err != nil || err2 != nil || first == second {
		t.Fatalf("got %s and %s: %v, %v", first, second, err, err2)
	}
	if got, err := l.For(keyOf("c"), plain); err == nil || got.IsValid() {
		t.Errorf("%s of an exhausted pool", got)
	}
	if freed := l.Freed(); freed != nil {
		t.Errorf("%v may have what nobody has released", freed)
	}
	if got, err := l.For(keyOf("b"), service(func(s *corev1.Service) { s.Spec.Type = "ClusterIP" })); err != nil || got.IsValid() {
		t.Errorf("%s for another type: %v", got, err)
	}
	if freed := l.Freed(); !slices.Equal(freed, []planner.Key{keyOf("c")}) || l.Freed() != nil {
		t.Errorf("%v may have what is released, not c alone and once", freed)
	}
	_, _ = l.For(keyOf("a"), nil)
	if got, err := l.For(keyOf("c"), asking); err != nil || got.String() != "fd00::1" {
		t.Errorf("%s in place of fd00::1: %v", got, err)
	}
	if got, err := l.For(keyOf("a"), plain); err != nil || got.String() != "fd00::" {
		t.Errorf("%s in place of fd00::, which is left: %v", got, err)
	}
}

// TestInstances: instances that have seen Services in different orders come to give them the same addresses, each its own,
// and then write no more.
func TestInstances(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e", "f"}
	statuses := map[string]*corev1.Service{}
	var instances []*LoadBalancers
	for i := range names {
		statuses[names[i]] = service()
		l, err := New(netip.MustParsePrefix("127.10.0.0/29")) // of six addresses, so they collide
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, l)
		for j := range names {
			if _, err := l.For(keyOf(names[(i+j)%len(names)]), service()); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(l *LoadBalancers, name string) (isChanged bool) {
		addr, err := l.For(keyOf(name), statuses[name])
		if err != nil {
			t.Fatal(err)
		}
		if have := ingress(statuses[name]); len(have) == 1 && have[0] == addr {
			return false
		}
		statuses[name] = service(withStatus(addr.String()))
		return true
	}
	for round := range 20 {
		isChanged := false
		for i, l := range instances {
			for j := range names {
				isChanged = write(l, names[(i+j)%len(names)]) || isChanged
			}
			for _, key := range l.Freed() {
				isChanged = write(l, key.Name) || isChanged
			}
		}
		if isChanged {
			continue
		}
		given := make(map[netip.Addr]bool)
		for _, s := range statuses {
			given[ingress(s)[0]] = true
		}
		if len(given) != len(names) {
			t.Errorf("after %d rounds %v", round, given)
		}
		return
	}
	t.Error("the instances change the statuses in turns")
}

func service(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	for _, change := range changes {
		change(s)
	}
	return s
}

func withStatus(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
	}
}

func keyOf(name string) planner.Key { return planner.Key{Namespace: "default", Name: name} }
