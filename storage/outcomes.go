package storage

import "context"

// OutcomesOf calls f for each of n things, so many at once, and returns what came of it.
func OutcomesOf(n, atOnce int, f func(i int) error) []Outcome {
	outcomes := make([]Outcome, n)
	// No call returns an error, and none is left out: f looks after its own context.
	_ = Each(context.Background(), n, atOnce, func(_ context.Context, i int) error {
		outcomes[i].Err = f(i)
		return nil
	})
	return outcomes
}
