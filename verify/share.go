package verify

import (
	"errors"
	"time"

	"regsweep/internal/human"
)

// Share is the part of the content that is read. The zero value is all of it. Otherwise one field is set.
type Share struct {
	Percent float64 // of the bytes of all blobs
	Bytes   int64
	// Time is how long blobs are begun. Those that are being read then are read to their ends: otherwise a
	// blob that takes longer would never be checked.
	Time time.Duration
}

var errShare = errors.New("want a share of the bytes such as 5%, bytes such as 50GB, or a time such as 30m")

// ParseShare parses a share: a percentage of the bytes, a number of bytes, or a time. 30m is a time, and 30M
// is bytes.
func ParseShare(text string) (Share, error) {
	if d, err := human.ParseAge(text); err == nil && d > 0 {
		return Share{Time: d}, nil
	}
	switch value, unit := human.ParseAmount(text); {
	case unit == '%' && value == 100:
		return Share{}, nil
	case unit == '%' && value > 0:
		return Share{Percent: value}, nil
	case unit == 'B' && value >= 1:
		return Share{Bytes: int64(value)}, nil
	}
	return Share{}, errShare
}

// Amount is a number of blobs and their bytes.
type Amount struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) { a.Blobs, a.Bytes = a.Blobs+1, a.Bytes+bytes }

// choose returns the first blobs of a share, at least one, and the sum of their bytes. They may be more than
// the share by a part of the last blob.
func (s Share) choose(all []blob) (chosen []blob, bytes int64) {
	limit := s.Bytes
	if s.Percent > 0 {
		total := int64(0)
		for _, of := range all {
			total += of.bytes
		}
		limit = max(1, int64(s.Percent/100*float64(total)))
	}
	for i, of := range all {
		if limit > 0 && bytes >= limit {
			return all[:i], bytes
		}
		bytes += of.bytes
	}
	return all, bytes
}
