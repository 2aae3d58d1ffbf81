package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/cli"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// cluster is what a set of manifests would make, by kind and name.
type cluster map[string]any

// load reads manifests as strictly as Kubernetes does: an unknown key is an error.
func load(t *testing.T, names ...string) cluster {
	t.Helper()
	objects := cluster{}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join("kubernetes", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range strings.Split(string(content), "\n---\n") {
			var head struct {
				APIVersion, Kind string
				Metadata         struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			object, known := map[string]any{
				"v1 ServiceAccount": &core.ServiceAccount{}, "v1 Secret": &core.Secret{}, "v1 Service": &core.Service{},
				"v1 PersistentVolumeClaim": &core.PersistentVolumeClaim{}, "apps/v1 Deployment": &apps.Deployment{}, "batch/v1 CronJob": &batch.CronJob{},
				"rbac.authorization.k8s.io/v1 Role": &rbac.Role{}, "rbac.authorization.k8s.io/v1 RoleBinding": &rbac.RoleBinding{},
			}[head.APIVersion+" "+head.Kind]
			if !known {
				t.Fatalf("%s has a %s %s", name, head.APIVersion, head.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Errorf("%s: %s %s: %v", name, head.Kind, head.Metadata.Name, err)
			}
			objects[head.Kind+" "+head.Metadata.Name] = object
		}
	}
	return objects
}

// has fails the test if there is no such object.
func (c cluster) has(t *testing.T, kind, name string) {
	t.Helper()
	if c[kind+" "+name] == nil {
		t.Errorf("there is no %s %q", kind, name)
	}
}

// checkPod fails the test if a Pod asks for more than it needs, or for what is not there.
func (c cluster) checkPod(t *testing.T, pod core.PodSpec) {
	t.Helper()
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the Pod may run as root, or call the kernel as it likes: %+v", s)
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("the Pod has a variable REGISTRY_PORT if a Service is named registry")
	}
	if pod.ServiceAccountName != "" {
		c.has(t, "ServiceAccount", pod.ServiceAccountName)
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = true
		if claim := volume.PersistentVolumeClaim; claim != nil {
			c.has(t, "PersistentVolumeClaim", claim.ClaimName)
		}
	}
	for _, container := range pod.Containers {
		s := container.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("the container %s may do more than it needs: %+v", container.Name, s)
		}
		if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
			t.Errorf("the container %s has no resources", container.Name)
		}
		for _, mount := range container.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("the container %s mounts %s, which is no volume", container.Name, mount.Name)
			}
		}
		for _, from := range container.EnvFrom {
			c.has(t, "Secret", from.SecretRef.Name)
		}
	}
}

var (
	deployment = regexp.MustCompile(`deployment/(\S+)`)
	selector   = regexp.MustCompile(`-l app=(\S+)`)
)

// TestKubernetesAcceptsTheManifests also checks that they fit together.
func TestKubernetesAcceptsTheManifests(t *testing.T) {
	help := windowHelp(t)
	for _, name := range []string{"bucket.yaml", "directory.yaml"} {
		t.Run(name, func(t *testing.T) {
			objects := load(t, "access.yaml", "registry.yaml", name)
			job := objects["CronJob regsweep"].(*batch.CronJob).Spec
			spec := job.JobTemplate.Spec
			pod := spec.Template.Spec
			objects.checkPod(t, pod)
			registry := objects["Deployment registry"].(*apps.Deployment)
			objects.checkPod(t, registry.Spec.Template.Spec)

			args := pod.Containers[0].Args
			all := strings.Join(args, " ")
			for _, arg := range args {
				if flag, _, _ := strings.Cut(arg, "="); strings.HasPrefix(arg, "--") && !strings.Contains(help, "   "+flag) {
					t.Errorf("regsweep window has no %s", flag)
				}
			}
			for _, found := range deployment.FindAllStringSubmatch(all, -1) {
				if found[1] != registry.Name {
					t.Errorf("it changes the Deployment %s", found[1])
				}
			}
			for _, found := range selector.FindAllStringSubmatch(all, -1) {
				if label := registry.Spec.Template.Labels["app"]; found[1] != label {
					t.Errorf("it lists the Pods %s, not those of the registry, %s", found[1], label)
				}
			}

			var limit time.Duration
			for _, arg := range args {
				if value, found := strings.CutPrefix(arg, "--for="); found {
					var err error
					if limit, err = time.ParseDuration(value); err != nil {
						t.Error(err)
					}
				}
			}
			if spec.ActiveDeadlineSeconds == nil || limit == 0 || time.Duration(*spec.ActiveDeadlineSeconds)*time.Second < limit+30*time.Minute {
				t.Errorf("the Job ends after %v s, and its work after %v", spec.ActiveDeadlineSeconds, limit)
			}
			if grace := pod.TerminationGracePeriodSeconds; grace == nil || *grace < 900 {
				t.Error("--after may be killed")
			}
			if job.ConcurrencyPolicy != batch.ForbidConcurrent || job.StartingDeadlineSeconds == nil || pod.RestartPolicy != core.RestartPolicyNever {
				t.Error("two windows may be open at once, or one begins in the morning")
			}
			// A Job is tried again only if regsweep was killed.
			rules := spec.PodFailurePolicy.Rules
			if codes := rules[0].OnExitCodes; len(rules) != 1 || rules[0].Action != batch.PodFailurePolicyActionFailJob || *codes.ContainerName != pod.Containers[0].Name ||
				codes.Operator != batch.PodFailurePolicyOnExitCodesOpIn || !slices.Equal(codes.Values, []int32{1, 2, 3, 4, 5, 6, 130}) {
				t.Errorf("the Job is tried again in other cases: %+v", rules)
			}

			target := args[len(args)-1]
			mounted := slices.ContainsFunc(pod.Containers[0].VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == target })
			if !strings.HasPrefix(target, "s3://") && !mounted {
				t.Errorf("%s is not mounted", target)
			}
			if mounted && !reflect.DeepEqual(pod.SecurityContext.RunAsUser, registry.Spec.Template.Spec.SecurityContext.RunAsUser) {
				t.Error("the files of the registry belong to another user")
			}
		})
	}
}

// windowHelp has a line for each flag of regsweep window.
func windowHelp(t *testing.T) string {
	t.Helper()
	var help bytes.Buffer
	env := cli.Process()
	env.Out = &help
	if code := cli.Run(t.Context(), []string{"regsweep", "help", "window"}, env); code != 0 {
		t.Fatalf("regsweep help window: exit code %d", code)
	}
	return help.String()
}

// TestTheWindowMayDoNothingElseInTheCluster: the verbs are those that kubectl 1.32 was seen to use.
func TestTheWindowMayDoNothingElseInTheCluster(t *testing.T) {
	objects := load(t, "access.yaml")
	role := objects["Role regsweep"].(*rbac.Role)
	want := []rbac.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, ResourceNames: []string{"registry"}, Verbs: []string{"get", "patch", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
	}
	if !reflect.DeepEqual(role.Rules, want) {
		t.Errorf("the role is %+v", role.Rules)
	}
	binding := objects["RoleBinding regsweep"].(*rbac.RoleBinding)
	objects.has(t, binding.RoleRef.Kind, binding.RoleRef.Name)
	for _, subject := range binding.Subjects {
		objects.has(t, subject.Kind, subject.Name)
	}
}
