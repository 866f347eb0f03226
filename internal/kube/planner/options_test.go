package planner

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestOptions has options by annotations and by the command line. problem is what a problem says, and empty: there is none.
func TestOptions(t *testing.T) {
	t.Parallel()
	const (
		tcp  = "{clusterIP: 10.96.0.1, ports: [{port: 80}]}"
		udp  = "{clusterIP: 10.96.0.1, ports: [{port: 80, protocol: UDP}]}"
		both = "{clusterIP: 10.96.0.1, ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}]}"
	)
	for name, c := range map[string]struct {
		spec        string
		annotations string // NAME VALUE; NAME VALUE
		env         []Option
		endpoints   string // default: two
		want        string // options of the services, with / between them
		problem     string
	}{
		"any scheduler":                    {spec: tcp, annotations: "scheduler lc", want: "scheduler=lc"},
		"several":                          {spec: tcp, annotations: "scheduler lc; health http:/ready; wait 5s", want: "scheduler=lc health=http:/ready on-empty=refuse wait=5s"},
		"of another prefix":                {spec: tcp, annotations: "x.usher.dev/scheduler lc"},
		"each network its own":             {spec: both, annotations: "idle-timeout 5m; udp-replies 1", want: "idle-timeout=5m / udp-replies=1"},
		"a check that only udp has":        {spec: both, annotations: "health dns:example.com", want: "/ health=dns:example.com"},
		"a network that it has not":        {spec: tcp, annotations: "udp-replies 1; scheduler lc", want: "scheduler=lc", problem: "annotation usher.dev/udp-replies: no port of the Service is of the network that has this option"},
		"an unknown one":                   {spec: tcp, annotations: "schedulr lc; scheduler lc", want: "scheduler=lc", problem: `annotation usher.dev/schedulr: unknown option (did you mean usher.dev/scheduler?)`},
		"an unknown one that is near none": {spec: tcp, annotations: "xyzzy-plugh 1", problem: "annotation usher.dev/xyzzy-plugh: unknown option (usher --help lists them)"},
		"a wrong value":                    {spec: tcp, annotations: "scheduler lcc; idle-timeout 5m", want: "idle-timeout=5m", problem: `did you mean "lc"?`},
		"two that cannot be together":      {spec: tcp, annotations: "idle-timeout 5m; reclaim-idle 5m", want: "idle-timeout=5m", problem: "annotation usher.dev/reclaim-idle 5m has no effect: idle-timeout 5m ends a connection before"},
		"the limit of an endpoint":         {spec: tcp, annotations: "max 7; queue 10,5s", want: "max=7 queue=10,5s"},
		"a wrong limit":                    {spec: tcp, annotations: "max 0", problem: "annotation usher.dev/max: "},
		"no program on the node":           {spec: tcp, annotations: "health exec:/bin/true", problem: "annotation usher.dev/health: an annotation must not run a program on the node"},
		"no file of the node":              {spec: tcp, annotations: "health https:/,ca=/etc/shadow", problem: "annotation usher.dev/health: an annotation must not read a file of the node"},
		"no flows of other Services":       {spec: tcp, annotations: "reserve 1", problem: "annotation usher.dev/reserve: a Service must not take flows from others"},
		"a program of the command line":    {spec: tcp, env: []Option{{"health", "exec:/bin/true"}}, want: "health=exec:/bin/true"},
		"of the command line":              {spec: both, env: []Option{{"scheduler", "lc"}, {"idle-timeout", "5m"}}, want: "scheduler=lc idle-timeout=5m / scheduler=lc"},
		"the annotation counts more":       {spec: tcp, env: []Option{{"scheduler", "lc"}}, annotations: "scheduler mh", want: "scheduler=mh"},
		"the command line's is not blamed": {spec: tcp, env: []Option{{"udp-replies", "1"}, {"reclaim-idle", "5m"}}, annotations: "idle-timeout 1m", want: "idle-timeout=1m"},
		"one that needs several endpoints": {spec: tcp, annotations: "eject 3; scheduler lc", endpoints: "10.0.0.1", want: "scheduler=lc eject=3,time=10s,share=50%"},
		"one that needs endpoints":         {spec: tcp, annotations: "queue 10,5s; max 5", endpoints: "10.0.0.1 notready", want: "queue=10,5s"},
		"scale from zero":                  {spec: both, annotations: "wait 30s", endpoints: "10.0.0.1 notready", want: "on-empty=refuse wait=30s /"},
		"what no endpoint means":           {spec: udp, annotations: "on-empty drop", endpoints: "10.0.0.1 notready", want: "on-empty=drop"},
		"always with an endpoint":          {spec: tcp, annotations: "on-empty off", env: []Option{{"on-empty", "off"}}, problem: "annotation usher.dev/on-empty: a Service may always be without an endpoint"},
		"affinity that is another":         {spec: "{sessionAffinity: ClientIP, " + tcp[1:], annotations: "persist 5s", want: "persist=5s"},
		"slow start":                       {spec: tcp, annotations: "slow-start 10s; max-age 1h; send-proxy v2; log-access true", want: "scheduler=wrr slow-start=10s max-age=1h,jitter=10% send-proxy=v2 log-access=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoints := []string{"10.0.0.1", "10.0.0.2"}
			if c.endpoints != "" {
				endpoints = []string{c.endpoints}
			}
			env := environment()
			env.Options = c.env
			in := Input{Service: service(t, c.spec)}
			in.Service.Annotations = annotations(c.annotations)
			in.Slices = append(web(endpoints...), slice("web-2", "t=1/TCP u=1/UDP", endpoints...))
			r := Plan(in, env)
			var got []string
			for _, line := range show(r) {
				got = append(got, optionsOf(line))
			}
			if got := strings.TrimSpace(strings.Join(got, " / ")); got != c.want {
				t.Errorf("options %q, want %q", got, c.want)
			}
			if len(r.Problems) > 1 || (len(r.Problems) > 0) != (c.problem != "") || c.problem != "" && !strings.Contains(r.Problems[0].Message, c.problem) {
				t.Errorf("problems %q, want %q", r.Problems, c.problem)
			}
		})
	}
}

// annotations reads NAME VALUE; NAME VALUE. A name with / has its prefix.
func annotations(text string) map[string]string {
	all := make(map[string]string)
	for one := range strings.SplitSeq(text, "; ") {
		name, value, _ := strings.Cut(one, " ")
		if !strings.Contains(name, "/") {
			name = AnnotationPrefix + name
		}
		all[name] = value
	}
	if text == "" {
		return nil
	}
	return all
}

// optionsOf returns the options of a line of show, and the limit of its first backend that has one.
func optionsOf(line string) string {
	_, rest, _ := strings.Cut(strings.ReplaceAll(line, ",interval=2s,timeout=1s,rise=2,fall=3", ""), " >")
	var limits, options []string
	for word := range strings.FieldsSeq(rest) {
		if addr, limit, ok := strings.Cut(word, ",max="); ok && !strings.Contains(addr, "=") {
			limits = append(limits, "max="+limit)
		} else if strings.Contains(word, "=") {
			options = append(options, word)
		}
	}
	return strings.Join(slices.Concat(slices.Compact(limits), options), " ")
}

// TestProblemsAreBounded: a Service may be wrong in any number of places, and its words may be of any length.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	s := service(t, clusterIP)
	s.Annotations = make(map[string]string)
	for i := range 100 {
		s.Annotations[AnnotationPrefix+strconv.Itoa(i)+strings.Repeat("x", 100*i)] = strings.Repeat("y", 1e5)
		s.Annotations[AnnotationPrefix+"scheduler"] = strings.Repeat("y", 1e5)
	}
	s.Spec.LoadBalancerSourceRanges = []string{strings.Repeat("z", 1e5)}
	s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: strings.Repeat("n", 1e5), Port: 80})
	problems := Plan(Input{Service: s}, environment()).Problems
	if len(problems) != maxProblems+1 || problems[maxProblems].Reason != moreProblems {
		t.Errorf("%d problems", len(problems))
	}
	for _, p := range problems {
		if len(p.Message) > maxMessage+10 {
			t.Errorf("a message has %d letters", len(p.Message))
		}
	}
}
