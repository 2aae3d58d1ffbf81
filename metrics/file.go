package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"regsweep/audit"
	"regsweep/storage"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// File is the file of --metrics. It has the metrics of all commands and targets that were written to it: a
// write replaces those of its own command and target. The methods of a nil *File do nothing.
type File struct {
	Path, Command string
	// Target is the value of the label. Nothing is written while it is "".
	Target string
	// Warn is called if the old file can't be read.
	Warn func(text string)
}

// Check returns an error if the file could not be written, or would replace a file of somebody else. So
// that is known before the run, which may take an hour. Its errors are usage errors.
func (f *File) Check() error {
	if !strings.HasSuffix(f.Path, ".prom") {
		return storage.Usagef("--metrics: node_exporter reads only files whose name ends with .prom: %q", f.Path)
	}
	info, err := os.Stat(f.Path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return storage.Usagef("--metrics: %s is no regular file", f.Path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return storage.Usagef("--metrics: %w", err)
	}
	if old, err := f.read(); err == nil {
		for name := range old {
			if !strings.HasPrefix(name, "regsweep_") {
				return storage.Usagef("--metrics: %s has %s, which is no metric of regsweep, so it is not replaced: choose another name", f.Path, name)
			}
		}
	}
	// The name does not end with .prom, so node_exporter does not read it.
	trial, err := os.CreateTemp(filepath.Dir(f.Path), filepath.Base(f.Path))
	if err == nil {
		err = errors.Join(trial.Close(), os.Remove(trial.Name()))
	}
	if err != nil {
		return storage.Usagef("--metrics: %s can't be written: %w", f.Path, err)
	}
	return nil
}

// Ended writes the end of a run.
func (f *File) Ended(r Run) error {
	return f.write(func(s *samples) { s.addRun(r) })
}

// Audited writes the end of a good audit, with its bill. notCounted has the keys of bytes that are not known.
func (f *File) Audited(r Run, bytes audit.Bytes, notCounted []string, repositories []audit.Repository) error {
	return f.write(func(s *samples) {
		s.addRun(r)
		s.addBill(bytes, notCounted, repositories)
	})
}

// Opened writes that a window is open since began, and Closed that it is closed.
func (f *File) Opened(began time.Time) error {
	return f.write(func(s *samples) {
		s.add("regsweep_window_open", 1)
		s.add("regsweep_window_opened_timestamp_seconds", seconds(began))
	})
}

// Closed writes that no window is open.
func (f *File) Closed() error {
	return f.write(func(s *samples) { s.add("regsweep_window_open", 0) })
}

// write replaces the file, completely or not at all. Metrics that are not among the new ones stay as they
// were: the last good run, and the metrics of other commands and targets.
func (f *File) write(fill func(*samples)) error {
	if f == nil || f.Target == "" {
		return nil
	}
	s := &samples{command: f.Command, target: strings.ToValidUTF8(f.Target, "?")}
	fill(s)
	registry := prometheus.NewPedanticRegistry()
	err := registry.Register(s)
	if err != nil {
		return f.wrap(err)
	}
	fresh, err := registry.Gather()
	if err != nil {
		return f.wrap(err)
	}
	old, err := f.read()
	if err != nil {
		f.Warn(fmt.Sprintf("warning: --metrics: the old %s can't be read, so the times of earlier runs are lost: %v", f.Path, err))
		old = nil
	}
	for _, family := range fresh {
		if before := old[family.GetName()]; before != nil {
			before.Help, before.Type = family.Help, family.Type
			before.Metric = slices.DeleteFunc(before.Metric, func(m *dto.Metric) bool { return m.Gauge == nil || f.isOurs(m) })
		}
	}
	kept := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return slices.Collect(maps.Values(old)), nil
	})
	return f.wrap(prometheus.WriteToTextfile(f.Path, prometheus.Gatherers{registry, kept}))
}

// isOurs reports whether a metric is of the target, and of the command if it names one.
func (f *File) isOurs(m *dto.Metric) bool {
	for _, label := range m.Label {
		switch {
		case label.GetName() == "target" && label.GetValue() != strings.ToValidUTF8(f.Target, "?"),
			label.GetName() == "command" && label.GetValue() != f.Command:
			return false
		}
	}
	return true
}

// read returns the metrics of the file by name, none if the file does not exist.
func (f *File) read() (families map[string]*dto.MetricFamily, err error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(file)
}

func (f *File) wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("--metrics: save %s: %w", f.Path, err)
	}
	return err
}
