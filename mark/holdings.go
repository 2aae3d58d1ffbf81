package mark

import (
	"context"

	"regsweep/inventory"
)

// Holding is a stored blob that a repository keeps alive. Cause is the cause in that repository.
type Holding struct {
	ID    inventory.ID
	Cause Cause
}

// Holdings calls visit with the holdings of each repository, each blob once and in no order. graph is
// the graph that the Live was made of. It calls visit concurrently. The error is the cause of ctx.
//
// It marks each repository again, since the result of one repository takes much less memory than the
// results of all.
func (l *Live) Holdings(ctx context.Context, graph *Graph, visit func(repository int, holdings []Holding)) error {
	return graph.EachRepository(ctx, func(_ context.Context, i int) error {
		var holdings []Holding
		for _, stage := range l.markRepository(graph, i, l.links[i]).stages {
			for _, v := range stage.added {
				if id := v.id(); graph.inv.Stored(id) {
					holdings = append(holdings, Holding{id, stage.cause})
				}
			}
		}
		visit(i, holdings)
		return nil
	})
}
