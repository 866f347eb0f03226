package deploy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// documents are those of the YAML, as Kubernetes' own types.
type documents struct {
	account corev1.ServiceAccount
	role    rbacv1.ClusterRole
	binding rbacv1.ClusterRoleBinding
	daemon  appsv1.DaemonSet
}

// parse decodes the documents. A field that Kubernetes does not have is an error.
func parse(t *testing.T, o Options) documents {
	t.Helper()
	var out strings.Builder
	if err := Print(&out, o); err != nil {
		t.Fatal(err)
	}
	var have documents
	into := []any{&have.account, &have.role, &have.binding, &have.daemon}
	texts := strings.Split(out.String(), "\n---\n")
	if len(texts) != len(into) {
		t.Fatalf("%d documents", len(texts))
	}
	for i, d := range texts {
		if err := yaml.UnmarshalStrict([]byte(d), into[i]); err != nil {
			t.Fatalf("%v in\n%s", err, d)
		}
	}
	return have
}

func TestManifestsFitTogether(t *testing.T) {
	t.Parallel()
	o := parse(t, Options{Image: "localhost/usher:1"})
	const name, namespace = "usher", "kube-system"
	if o.account.Name != name || o.account.Namespace != namespace || o.daemon.Namespace != namespace {
		t.Errorf("account %s/%s, DaemonSet in %s", o.account.Namespace, o.account.Name, o.daemon.Namespace)
	}
	if diff := cmp.Diff([]rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: namespace}}, o.binding.Subjects); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: o.role.Name}, o.binding.RoleRef); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(o.daemon.Spec.Selector.MatchLabels, o.daemon.Spec.Template.Labels); diff != "" {
		t.Error(diff)
	}
	kinds := []string{o.account.Kind, o.role.Kind, o.binding.Kind, o.daemon.Kind}
	if diff := cmp.Diff([]string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"}, kinds); diff != "" {
		t.Error(diff)
	}
}

// TestPodIsRestricted checks the points of the Pod Security Standard "restricted". The network of the host alone is
// beyond it.
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	pod := parse(t, Options{Image: "x", HealthzPort: "10256", Drain: 30 * time.Second}).daemon.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers)+len(pod.EphemeralContainers) > 0 {
		t.Fatal("more than one container")
	}
	container := pod.Containers[0]
	isTrue := func(b *bool) bool { return b != nil && *b }
	isFalse := func(b *bool) bool { return b != nil && !*b }
	for name, holds := range map[string]bool{
		"no host PID, no host IPC": !pod.HostPID && !pod.HostIPC,
		"non-root":                 isTrue(pod.SecurityContext.RunAsNonRoot) && *pod.SecurityContext.RunAsUser > 0 && container.SecurityContext.RunAsUser == nil,
		"seccomp":                  pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault && container.SecurityContext.SeccompProfile == nil,
		"no sysctls":               len(pod.SecurityContext.Sysctls) == 0,
		"no privilege escalation":  isFalse(container.SecurityContext.AllowPrivilegeEscalation),
		"not privileged":           container.SecurityContext.Privileged == nil,
		"no capabilities":          cmp.Equal(container.SecurityContext.Capabilities, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}),
		"read-only root":           isTrue(container.SecurityContext.ReadOnlyRootFilesystem),
		"volumes":                  len(pod.Volumes) == 1 && pod.Volumes[0].EmptyDir != nil,
		"probes of the pod alone":  container.LivenessProbe.HTTPGet.Host == "" && container.ReadinessProbe.HTTPGet.Host == "",
		"network of the host":      pod.HostNetwork && pod.DNSPolicy == corev1.DNSDefault,
		"on every node":            len(pod.Tolerations) == 1 && pod.Tolerations[0].Key == "" && pod.Tolerations[0].Operator == corev1.TolerationOpExists,
		"not evicted":              pod.PriorityClassName == "system-node-critical",
		"has longer than flows":    *pod.TerminationGracePeriodSeconds == 40,
	} {
		if !holds {
			t.Error(name)
		}
	}
}

func TestOptionsOfManifests(t *testing.T) {
	t.Parallel()
	folder := corev1.EnvVar{Name: "TMPDIR", Value: "/tmp"}
	node := corev1.EnvVar{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}
	server := func(host, port string) []corev1.EnvVar {
		return []corev1.EnvVar{folder, node, {Name: "KUBERNETES_SERVICE_HOST", Value: host}, {Name: "KUBERNETES_SERVICE_PORT", Value: port}}
	}
	for _, c := range []struct {
		options Options
		env     []corev1.EnvVar
		err     string
	}{
		{Options{Image: "localhost/usher:1"}, []corev1.EnvVar{folder, node}, ""},
		{Options{Image: "a/b@sha256:0", Args: []string{"--scheduler", "lc"}, APIServer: "kind-control-plane:6443"}, server("kind-control-plane", "6443"), ""},
		{Options{Image: "x\"\n  hostPID: true", Args: []string{"", "- 'x'", "${image}", "#", "\u00e9\t<>"}, APIServer: "[fd00::1]:6443"}, server("fd00::1", "6443"), ""},
		{Options{}, nil, "the manifests need an image that has usher at /usher"},
		{Options{Image: "x", APIServer: "10.0.0.1"}, nil, `the API server "10.0.0.1" is not HOST:PORT`},
		{Options{Image: "x", APIServer: ":6443"}, nil, `the API server ":6443" is not HOST:PORT`},
	} {
		if c.err != "" {
			if err := Print(new(strings.Builder), c.options); err == nil || err.Error() != c.err {
				t.Errorf("%+v: %v", c.options, err)
			}
			continue
		}
		container := parse(t, c.options).daemon.Spec.Template.Spec.Containers[0]
		want := corev1.Container{Image: c.options.Image, Command: []string{"/usher", "kube"}, Args: c.options.Args, Env: c.env}
		have := corev1.Container{Image: container.Image, Command: container.Command, Args: container.Args, Env: container.Env}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Error(diff)
		}
	}
}
