package sweep

// Result counts the removals that the storage has confirmed.
type Result struct {
	// Removed counts by kind. Bytes are those that were freed.
	Removed map[Kind]Tally
	// Hidden is the size in bytes of the objects that are only hidden by a delete marker
	// (storage.Outcome). They still use space.
	Hidden int64
	// HardLinked counts the removed blobs and uploads whose files had other hard links. Bytes
	// are the bytes that were not freed because of these links.
	HardLinked Tally
	// Versions counts the noncurrent versions that were removed with their objects.
	Versions Tally
	// Failed has the first 100 removals that failed.
	Failed []Failure
}

// Len returns the number of confirmed removals, out of Plan.Len.
func (r *Result) Len() int {
	n := 0
	for _, kind := range table {
		n += r.Removed[kind.kind].Count
	}
	return n
}

// Failure is a removal that failed, or that was only partly done.
type Failure struct {
	Removal
	Err error
}

// maxFailures bounds how many failures are kept for the report.
const maxFailures = 100

// fail adds a failure, up to maxFailures.
func (r *Result) fail(removal Removal, err error) {
	if len(r.Failed) < maxFailures {
		r.Failed = append(r.Failed, Failure{removal, err})
	}
}
