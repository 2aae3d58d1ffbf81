package cli

import (
	"cmp"
	"errors"
	"math"
	"strconv"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// limitFlags returns the flags that limit the requests to the storage.
func limitFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.GenericFlag{Name: "concurrency", Value: new(number), Usage: "have at most `N` requests to the storage under way (default: right for the storage)"},
		&urfave.GenericFlag{Name: "max-requests", Value: new(number), Usage: "begin at most `N` requests to the storage a second (default: no bound)"},
	}
}

func readLimits(c *urfave.Context) storage.Limits {
	return storage.Limits{
		Concurrency: int(*c.Generic("concurrency").(*number)),
		MaxRequests: int(*c.Generic("max-requests").(*number)),
	}
}

// number is the value of a flag: a whole number. 0 means the default.
type number int

// limitOf returns the value of --limit. 0 is no limit.
func limitOf(c *urfave.Context) int {
	return cmp.Or(int(*c.Generic("limit").(*number)), math.MaxInt)
}

func newNumber(n number) *number { return &n }

// maxNumber is far above the number of requests that any storage can take.
const maxNumber = 100_000

var errNumber = errors.New("want a whole number from 0 to " + strconv.Itoa(maxNumber))

// Set implements urfave.Generic.
func (n *number) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > maxNumber {
		return errNumber
	}
	*n = number(value)
	return nil
}

// String returns "" for the default. The usage of the flag explains the default.
func (n *number) String() string {
	if n == nil || *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}
