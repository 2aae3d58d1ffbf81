package storage

import "golang.org/x/sync/errgroup"

// outcomesOf calls f for each of n things, so many at once, and returns what came of it.
func outcomesOf(n, atOnce int, f func(i int) error) []Outcome {
	outcomes := make([]Outcome, n)
	var g errgroup.Group // of functions that put their error in their outcome
	g.SetLimit(atOnce)
	for i := range outcomes {
		g.Go(func() error {
			outcomes[i].Err = f(i)
			return nil
		})
	}
	_ = g.Wait() // no function of the group returns an error
	return outcomes
}
