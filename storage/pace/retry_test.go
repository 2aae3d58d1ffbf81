package pace

import (
	"fmt"
	"testing"
	"time"
)

// answered is an error of a server's answer, with the methods that the SDK's errors have.
func answered(status int, code string) error { return answer{status: status, code: code} }

type answer struct {
	status      int
	code, after string
}

func (a answer) Error() string       { return fmt.Sprintf("status %d, %s", a.status, a.code) }
func (a answer) HTTPStatusCode() int { return a.status }
func (a answer) ErrorCode() string   { return a.code }
func (a answer) RetryAfter() string  { return a.after }

// TestDefaultRetriesTakeUpToAMinute and wait longer each time, by a share of chance.
func TestDefaultRetriesTakeUpToAMinute(t *testing.T) {
	for _, chance := range []float64{0, 0.999} {
		r := DefaultRetries
		r.random = func() float64 { return chance }
		var total, before time.Duration
		for try := 1; try < r.Tries; try++ {
			delay := r.delay(try)
			if delay < before {
				t.Errorf("%v after %v", delay, before)
			}
			before = delay
			total += delay
		}
		if total < 20*time.Second || total > time.Minute {
			t.Errorf("%d tries take %v", r.Tries, total)
		}
	}
	r := DefaultRetries
	if got := r.delay(1000); got > r.Max {
		t.Errorf("the thousandth wait is %v", got)
	}
}
