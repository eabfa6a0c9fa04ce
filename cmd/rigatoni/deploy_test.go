package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
)

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// systemd starts again what a restart helps, and nothing else.
func TestUnitHasTheExitCodes(t *testing.T) {
	var want []string
	for _, c := range exitCodes {
		if c.restart == "no" {
			want = append(want, strconv.Itoa(c.code))
		}
	}
	unit := deployed(t, "deploy/systemd/rigatoni@.service")
	for _, line := range []string{"RestartPreventExitStatus=" + strings.Join(want, " "), "Type=notify", "Restart=on-failure"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if !regexp.MustCompile(`\nWatchdogSec=\d+\n`).MatchString(unit) {
		t.Error("the unit has no watchdog")
	}
}

// The pipeline in the Kubernetes example is one, and its probes ask where it serves.
func TestKubernetesExample(t *testing.T) {
	secrets := t.TempDir()
	var pipeline, ports, probes string
	for doc := range strings.SplitSeq(deployed(t, "deploy/kubernetes/rigatoni.yaml"), "\n---\n") {
		var object struct {
			Kind       string
			StringData map[string]string `yaml:"stringData"`
			Data       map[string]string
			Spec       struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Args  []string
							Ports []struct {
								ContainerPort int `yaml:"containerPort"`
							}
							LivenessProbe struct {
								HTTPGet struct{ Path string } `yaml:"httpGet"`
							} `yaml:"livenessProbe"`
							ReadinessProbe struct {
								HTTPGet struct{ Path string } `yaml:"httpGet"`
							} `yaml:"readinessProbe"`
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			t.Fatal(err)
		}
		for name, value := range object.StringData {
			value = strings.NewReplacer("<user>", "u", "<password>", "p", "<host>", "h").Replace(value)
			if err := os.WriteFile(filepath.Join(secrets, name), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if object.Kind == "ConfigMap" {
			pipeline = object.Data["pipeline.yaml"]
		}
		for _, c := range object.Spec.Template.Spec.Containers {
			ports, probes = strconv.Itoa(c.Ports[0].ContainerPort), c.LivenessProbe.HTTPGet.Path+c.ReadinessProbe.HTTPGet.Path
		}
	}
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	pipeline = strings.ReplaceAll(pipeline, "/run/secrets/rigatoni", filepath.ToSlash(secrets))
	if err := os.WriteFile(file, []byte(pipeline), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Read(config.Input{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if s.Monitoring.HTTP != "0.0.0.0:"+ports || probes != "/healthz/readyz" {
		t.Errorf("it serves at %s, its port is %s, its probes %s", s.Monitoring.HTTP, ports, probes)
	}
}

// The image's health check and its command exist.
func TestDockerfile(t *testing.T) {
	text := deployed(t, "deploy/Dockerfile")
	for _, line := range []string{"USER 65532:65532", "ENV " + config.FileVariable + "=", `CMD ["/usr/local/bin/rigatoni", "check", "--running"]`, "FROM scratch"} {
		if !strings.Contains(text, line) {
			t.Errorf("the Dockerfile lacks %s", line)
		}
	}
	check, _, err := newRoot(world{}).Find([]string{"check"})
	if err != nil || check.Flags().Lookup("running") == nil {
		t.Errorf("there is no check --running: %v", err)
	}
}

// The manual has the help of each command, and no line of it is a request of roff.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), world{args: []string{"man", dir}, stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	page, err := os.ReadFile(filepath.Join(dir, "rigatoni-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`\-`, "-", `\e`, `\`).Replace(string(page))
	for _, want := range []string{".TH RIGATONI-RUN 1\n", "\nrigatoni-run - Run a pipeline", "--save-interval DURATION", "Exit codes:", "rigatoni(1)"} {
		if !strings.Contains(text, want) {
			t.Errorf("rigatoni-run.1 lacks %q", want)
		}
	}
	for line := range strings.SplitSeq(string(page), "\n") {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !regexp.MustCompile(`^\.(TH|SH|nf|fi)\b`).MatchString(line) {
			t.Errorf("a request: %s", line)
		}
	}
	for _, name := range []string{"rigatoni.1", "rigatoni-checkpoint.1", "rigatoni-checkpoint-set.1"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out.Reset()
		if code := run(t.Context(), world{args: []string{"completion", shell}, stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }}); code != exitOK || out.Len() < 1000 {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, out.Len())
		}
	}
}
