package storage

import "context"

// OutcomesOf calls f for each number from 0 to n-1, and returns the outcomes in order. At most
// atOnce calls run at once.
func OutcomesOf(n, atOnce int, f func(i int) error) []Outcome {
	outcomes := make([]Outcome, n)
	// No call returns an error, so Each calls f for all numbers. f checks its own context.
	_ = Each(context.Background(), n, atOnce, func(_ context.Context, i int) error {
		outcomes[i].Err = f(i)
		return nil
	})
	return outcomes
}
