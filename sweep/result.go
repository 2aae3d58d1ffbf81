package sweep

// Result is what was removed: nothing that the storage has not confirmed.
type Result struct {
	// Removed counts by kind. Bytes are those that the storage has given back.
	Removed map[Kind]Tally
	// Hidden counts the bytes of what is only out of sight (storage.Outcome), and still
	// paid for.
	Hidden int64
	// HardLinked counts the blobs and uploads that were removed while their files had other
	// hard links, and the bytes that were not freed for that.
	HardLinked Tally
	// Versions counts the noncurrent versions that went with what was removed.
	Versions Tally
	// Failed are the removals that the storage refused, up to a hundred.
	Failed []Failure
}

// Len is the number of removals that were done, out of Plan.Len.
func (r *Result) Len() int {
	n := 0
	for _, kind := range table {
		n += r.Removed[kind.kind].Count
	}
	return n
}

// Failure is a removal that did not happen, or not wholly.
type Failure struct {
	Removal
	Err error
}

// maxFailures bounds how many failures are kept for the report.
const maxFailures = 100

// fail notes a removal that did not happen.
func (r *Result) fail(removal Removal, err error) {
	if len(r.Failed) < maxFailures {
		r.Failed = append(r.Failed, Failure{removal, err})
	}
}
