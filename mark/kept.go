package mark

import (
	"context"

	"regsweep/inventory"
)

// EachKept calls visit with the stored blobs that each repository keeps alive, each blob once and in no order.
// graph is the graph that the Live was made of. It calls visit concurrently. The error is the cause of ctx.
//
// It marks each repository again, since the result of one repository takes much less memory than the
// results of all.
func (l *Live) EachKept(ctx context.Context, graph *Graph, visit func(repository int, blobs []inventory.ID)) error {
	return graph.EachRepository(ctx, func(_ context.Context, i int) error {
		var blobs []inventory.ID
		for _, stage := range l.markRepository(graph, i, l.links[i]).stages {
			for _, v := range stage.added {
				if id := v.id(); graph.inv.Stored(id) {
					blobs = append(blobs, id)
				}
			}
		}
		visit(i, blobs)
		return nil
	})
}
