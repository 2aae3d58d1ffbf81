package pace

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPaceForgetsOneRefusal: a server refuses one request, or all that are under way at one
// moment, and takes everything else. The run is back at full speed within two seconds. After
// two or three such moments it takes a little longer.
func TestPaceForgetsOneRefusal(t *testing.T) {
	t.Parallel()
	const requests = 35
	for name, fault := range map[string]error{
		"503 SlowDown":           answered(503, "SlowDown"),
		"503 without a code":     answered(503, ""),
		"429":                    answered(429, ""),
		"500 InternalError":      answered(500, "InternalError"),
		"200 with InternalError": answered(200, "InternalError"),
	} {
		for where, test := range map[string]struct {
			refused []int
			most    time.Duration
		}{
			"the first request": {[]int{1}, 2 * time.Second},
			"one in the middle": {[]int{17}, 2 * time.Second},
			"the last one":      {[]int{requests}, 2 * time.Second},
			"the first two":     {[]int{1, 2}, 4 * time.Second},
			"the first three":   {[]int{1, 2, 3}, 10 * time.Second},
			"two of the first":  {[]int{1, 6}, 4 * time.Second},
			"all under way":     {[]int{4, 5, 6, 7, 8, 9, 10, 11}, 2 * time.Second},
		} {
			t.Run(name+"/"+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { refuseSome(t, requests, test.refused, fault, test.most) })
			})
		}
	}
}

// TestPaceForgetsARefusalLongAgo: the next refusal counts as the first again.
func TestPaceForgetsARefusalLongAgo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		asked := 0
		op := func() error {
			if asked++; asked%2 == 1 {
				return answered(503, "SlowDown")
			}
			return nil
		}
		for range 2 {
			time.Sleep(time.Minute)
			if err := r.Do(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for range 100 {
			if err := r.Do(t.Context(), func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("100 requests took %v", took)
		}
	})
}

// refuseSome has a server answer some of its requests, counted from 1, with a fault.
func refuseSome(t *testing.T, requests int, refused []int, fault error, most time.Duration) {
	r := pacedRetries(8, 0)
	r.random, r.Pace.random = func() float64 { return 0.5 }, func() float64 { return 0.5 }
	var mu sync.Mutex
	asked := 0
	op := func() error {
		mu.Lock()
		asked++
		n := asked
		mu.Unlock()
		time.Sleep(15 * time.Millisecond)
		if slices.Contains(refused, n) {
			return fault
		}
		return nil
	}
	began := time.Now()
	for range 3 { // one after the other, as a run begins
		if err := r.Do(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range requests - 3 {
		all.Go(func() {
			if err := r.Do(t.Context(), op); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > most {
		t.Errorf("%d requests took %v", asked, took)
	}
	if asked < requests+len(refused)-1 {
		t.Errorf("only %d requests", asked)
	}
}
