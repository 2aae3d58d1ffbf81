package cli

import (
	"errors"
	"testing"
	"time"

	"regsweep/storage"
)

// Of --until and --for the earlier one counts. A command that has set a deadline before keeps it.
func TestTheDeadlineIsTheEarlierOne(t *testing.T) {
	start := at(t, "2026-12-01T04:00:00Z")
	clock := func(text string) (m moment) {
		if err := m.Set(text); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, test := range []struct {
		budget budget
		want   time.Duration
	}{
		{budget{until: clock("06:00")}, 2 * time.Hour},
		{budget{limit: time.Hour}, time.Hour},
		{budget{until: clock("06:00"), limit: time.Hour}, time.Hour},
		{budget{until: clock("06:00"), limit: 3 * time.Hour}, 2 * time.Hour},
	} {
		g := &gcRun{options: gcOptions{budget: test.budget}, report: newReport("gc")}
		if err := g.setBudget(start); err != nil || g.deadline.Sub(start) != test.want || !g.report.Budget.Until.Equal(g.deadline) {
			t.Errorf("%+v: %s, %v, want %s", test.budget, g.deadline.Sub(start), err, test.want)
		}
	}
	g := &gcRun{options: gcOptions{budget: budget{until: clock("2026-12-01T04:00:00Z")}}, report: newReport("gc")}
	if err := g.setBudget(start); !errors.As(err, new(*storage.UsageError)) {
		t.Errorf("a time in the past: %v", err)
	}
	before := start.Add(time.Minute)
	g = &gcRun{options: gcOptions{budget: budget{limit: time.Hour}}, report: newReport("gc"), deadline: before}
	if err := g.setBudget(start); err != nil || g.deadline != before {
		t.Errorf("a deadline that was set becomes %s, %v", g.deadline, err)
	}
	g = &gcRun{report: newReport("gc")}
	if err := g.setBudget(start); err != nil || !g.deadline.IsZero() || g.report.Budget != nil {
		t.Errorf("without flags: %s, %+v, %v", g.deadline, g.report.Budget, err)
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
