package window

import (
	"io"
	"slices"
	"time"
)

// Output passes on what is written to it, and never blocks: a terminal that is stopped with Ctrl-S, or a
// pipe that nobody reads, must not keep the registry read-only. What does not fit is lost. Its methods may be
// called concurrently.
type Output struct {
	texts chan []byte
	ended chan struct{}
}

// lastWait bounds the wait for a reader at the end.
const lastWait = 5 * time.Second

// NewOutput returns an Output that writes to a writer.
func NewOutput(to io.Writer) *Output {
	o := &Output{texts: make(chan []byte, 1000), ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		for text := range o.texts {
			_, _ = to.Write(text) // there is no other place to report an error
		}
	}()
	return o
}

// Write implements io.Writer.
func (o *Output) Write(text []byte) (int, error) {
	select {
	case o.texts <- slices.Clone(text):
	default:
	}
	return len(text), nil
}

// End waits for a while until all was written. Nothing may be written afterwards.
func (o *Output) End() {
	close(o.texts)
	select {
	case <-o.ended:
	case <-time.After(lastWait):
	}
}
