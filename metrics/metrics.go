// Package metrics writes the figures of a run to a file, from which node_exporter's textfile collector
// takes them for Prometheus.
package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// help has all metrics. docs/metrics.md explains them.
var help = map[string]string{
	"regsweep_last_run_timestamp_seconds":      "End of the last run.",
	"regsweep_last_run_duration_seconds":       "Duration of the last run.",
	"regsweep_last_run_exit_code":              "Exit code of the last run.",
	"regsweep_last_run_success":                "1 if the last run was good (exit code 0 or 4), otherwise 0.",
	"regsweep_last_success_timestamp_seconds":  "End of the last good run.",
	"regsweep_last_run_problems":               "Problems of the last run that kept something that might be garbage.",
	"regsweep_last_run_freed_bytes":            "Bytes that the last run has freed.",
	"regsweep_last_run_hidden_bytes":           "Bytes that the last run has moved to a quarantine or hidden behind delete markers. They still use space.",
	"regsweep_garbage_left_bytes":              "Bytes of garbage that the last run has left: for a budget, a damaged repository, or because it ended early.",
	"regsweep_window_open":                     "1 while a maintenance window is open, otherwise 0.",
	"regsweep_window_opened_timestamp_seconds": "Begin of the last maintenance window.",
	"regsweep_audit_repositories":              "Number of repositories.",
	"regsweep_repository_bytes":                "Bytes of the blobs that a repository keeps alive. A blob counts for each of its repositories.",
	"regsweep_repository_fair_bytes":           "Bytes of a repository, with its part of each blob that several repositories keep alive.",
	"regsweep_audit_logical_bytes":             "Bytes that pulls of all tags would fetch.",
	"regsweep_audit_stored_bytes":              "Bytes of all blobs.",
	"regsweep_audit_live_bytes":                "Bytes of the blobs that a gc keeps.",
	"regsweep_audit_tagged_bytes":              "Bytes of the live blobs that a tag reaches.",
	"regsweep_audit_untagged_bytes":            "Bytes of the live blobs that no tag reaches.",
	"regsweep_audit_garbage_bytes":             "Bytes of the blobs that a gc removes.",
	"regsweep_audit_uploads_bytes":             "Bytes of unfinished uploads.",
	"regsweep_audit_quarantine_bytes":          "Bytes in quarantines.",
	"regsweep_audit_other_bytes":               "Bytes of everything else below the root of the layout.",
	"regsweep_audit_total_bytes":               "Bytes of the whole storage, without versions and multipart uploads.",
	"regsweep_audit_noncurrent_version_bytes":  "Bytes of noncurrent versions in the bucket.",
	"regsweep_audit_multipart_bytes":           "Bytes of multipart uploads in progress in the bucket.",
}

// Run is how a run has ended.
type Run struct {
	Began, Ended time.Time
	ExitCode     int
	Problems     int
	// Removal is nil if the command is one that removes nothing.
	Removal *Removal
}

// Removal has the bytes of a run that removes. Left is Unknown if the run did not get as far as a plan.
type Removal struct{ Freed, Hidden, Left int64 }

// Unknown stands for bytes that are not known. The file keeps what an earlier run has said.
const Unknown = -1

// IsGood reports whether a run did its work. With exit code 4 it did, and kept something because of a
// problem, which has a metric of its own.
func (r Run) IsGood() bool { return r.ExitCode == 0 || r.ExitCode == 4 }

// samples are the values of one write. They are a prometheus.Collector.
type samples struct {
	command, target string
	metrics         []prometheus.Metric
}

// Describe implements prometheus.Collector. Nothing is known before.
func (*samples) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *samples) Collect(to chan<- prometheus.Metric) {
	for _, metric := range s.metrics {
		to <- metric
	}
}

// add adds a value with the label target, and more labels. The values of labels must be text.
func (s *samples) add(name string, value float64, labels ...string) {
	names, values := []string{"target"}, []string{s.target}
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, strings.ToValidUTF8(labels[i+1], "?"))
	}
	s.metrics = append(s.metrics, prometheus.MustNewConstMetric(prometheus.NewDesc(name, help[name], names, nil), prometheus.GaugeValue, value, values...))
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// addRun adds the end of a run. Without a Removal nothing is said about bytes, and the file keeps what
// an earlier run has said.
func (s *samples) addRun(r Run) {
	add := func(name string, value float64) { s.add(name, value, "command", s.command) }
	add("regsweep_last_run_timestamp_seconds", seconds(r.Ended))
	add("regsweep_last_run_duration_seconds", r.Ended.Sub(r.Began).Seconds())
	add("regsweep_last_run_exit_code", float64(r.ExitCode))
	add("regsweep_last_run_problems", float64(r.Problems))
	if r.IsGood() {
		add("regsweep_last_run_success", 1)
		add("regsweep_last_success_timestamp_seconds", seconds(r.Ended))
	} else {
		add("regsweep_last_run_success", 0)
	}
	if of := r.Removal; of != nil {
		add("regsweep_last_run_freed_bytes", float64(of.Freed))
		add("regsweep_last_run_hidden_bytes", float64(of.Hidden))
		if of.Left != Unknown {
			add("regsweep_garbage_left_bytes", float64(of.Left))
		}
	}
}
