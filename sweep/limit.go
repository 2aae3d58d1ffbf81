package sweep

import (
	"cmp"
	"slices"

	"regsweep/inventory"
)

// Left counts the garbage that Options.MaxBytes leaves to the next run.
type Left struct {
	Blobs, Uploads Tally
	// TooLarge is the part of it that is larger than the limit by itself. No run with this limit
	// removes it.
	TooLarge Tally
}

// Rest counts the garbage that is there after a run. Bytes are those of blobs and uploads. TooLarge is as
// in Left.
type Rest struct {
	Blobs    int   `json:"blobs"`
	Uploads  int   `json:"uploads"`
	Links    int   `json:"links"`
	Bytes    int64 `json:"bytes"`
	TooLarge Tally `json:"too_large"`
}

// Rest returns what is left after an execution with this result, or without one if it is nil.
func (p *Plan) Rest(result *Result) Rest {
	if result == nil {
		result = &Result{}
	}
	rest := Rest{
		Blobs: p.Left.Blobs.Count, Uploads: p.Left.Uploads.Count, TooLarge: p.Left.TooLarge,
		Bytes: p.Left.Blobs.Bytes + p.Left.Uploads.Bytes - result.Hidden - result.HardLinked.Bytes,
	}
	for kind, garbage := range p.Garbage {
		removed := result.Removed[kind]
		rest.Bytes += garbage.Bytes - removed.Bytes
		switch n := garbage.Count - removed.Count; {
		case kind == Blob:
			rest.Blobs += n
		case kind == Upload:
			rest.Uploads += n
		case kind.Form() == Links:
			rest.Links += n
		}
	}
	return rest
}

// largestFirst returns the numbers below n by descending size. Equal sizes keep their order.
func largestFirst(n int, bytes func(i int) int64) []int32 {
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(bytes(int(b)), bytes(int(a))), cmp.Compare(a, b))
	})
	return order
}

// limit takes blobs and uploads out of the plan, so that at most Options.MaxBytes remain. The largest
// remain, and those that still fit beside them. The bytes of a file with other hard links count too:
// its removal frees nothing, but it is a removal.
func (p *planner) limit() {
	if p.Options.MaxBytes <= 0 {
		return
	}
	blobs := len(p.blobs)
	bytes := func(i int) int64 {
		if i < blobs {
			return p.blobBytes(i)
		}
		u, _ := p.upload(i - blobs)
		return u.Bytes
	}
	var left bits // indexes of blobs, and then of uploads
	rest := p.Options.MaxBytes
	for _, i := range largestFirst(blobs+len(p.uploads), bytes) {
		size := bytes(int(i))
		if size <= rest {
			rest -= size
			continue
		}
		left.add(int(i))
		if size > p.Options.MaxBytes {
			p.Left.TooLarge.Add(1, size)
		}
	}
	p.limitUploads(func(i int) bool { return left.has(blobs + i) })
	p.limitBlobs(left.has)
}

func (p *planner) limitUploads(isLeft func(i int) bool) {
	var planned []upload
	p.leftUploads = map[upload]bool{}
	for i, at := range p.uploads {
		if !isLeft(i) {
			planned = append(planned, at)
			continue
		}
		u, _ := p.uploadAt(at)
		p.Left.Uploads.Add(1, u.Bytes)
		p.leftUploads[at] = true
	}
	p.uploads = planned
}

func (p *planner) limitBlobs(isLeft func(i int) bool) {
	var planned []inventory.ID
	var sizes []int64
	var hardLinked bits
	for i, id := range p.blobs {
		size := p.blobBytes(i)
		if isLeft(i) {
			p.Left.Blobs.Add(1, size)
			p.leftBlobs.add(int(id))
			continue
		}
		if planned = append(planned, id); p.blobSizes != nil {
			sizes = append(sizes, size)
		}
		if p.hardLinked.has(i) {
			hardLinked.add(len(planned) - 1)
		}
	}
	p.blobs, p.blobSizes, p.hardLinked = planned, sizes, hardLinked
	p.keptBlobs[KeptLimit] = p.Left.Blobs
}
