package e2e

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"regsweep/internal/imagetest"
)

// TestVerifyBesidePushes: while images are pushed and deleted, verify reports none of the images that stay, and after
// that it finds nothing but what the deletions have left.
func TestVerifyBesidePushes(t *testing.T) {
	t.Parallel()
	onEach(t, "pushes", func(t *testing.T, on backend) {
		s := newFixture(t)
		for i := range 5 {
			s.push(fmt.Sprintf("app:stays-%d", i), app(i, i+1))
			s.push(fmt.Sprintf("team/app:stays-%d", i), imagetest.Index(imagetest.OCI, app(i), app(i+10)))
		}
		s.on(on)
		target := s.config(s.registry.ConfigYAML())
		var isOver atomic.Bool
		pushed := make(chan error)
		var done atomic.Int64
		go func() {
			pushed <- func() error {
				for rounds := 0; !isOver.Load(); rounds++ {
					for _, reference := range []string{"app:comes", fmt.Sprintf("app:new-%d", rounds%7), fmt.Sprintf("new-%d:v1", rounds)} {
						if err := s.client.Push(t.Context(), reference, app(100+rounds, rounds%5)); err != nil {
							return err
						}
					}
					if err := s.client.Push(t.Context(), "team/app:index", imagetest.Index(imagetest.OCI, app(200+rounds), app(300+rounds))); err != nil {
						return err
					}
					if err := s.client.Delete(t.Context(), "app", fmt.Sprintf("new-%d", rounds%7)); err != nil {
						return err
					}
					done.Store(int64(rounds) + 1)
					if err := s.client.Delete(t.Context(), "app", app(100+rounds, rounds%5).Digest().String()); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
		runs := 10
		if testing.Short() {
			runs = 4
		}
		for i := range runs {
			args := []string{target}
			if i%2 == 1 {
				args = append(args, "--read-data")
			}
			if report := s.verify(args...); len(report.Findings) > 0 {
				t.Errorf("run %d, beside round %d of pushes:%s", i, done.Load(), s.readable(report.lines()))
			}
		}
		isOver.Store(true)
		if err := <-pushed; err != nil {
			t.Fatal(err)
		}
		if done.Load() == 0 {
			t.Fatal(errors.New("nothing was pushed meanwhile"))
		}
		if report := s.verify("--read-data", target); len(report.Findings) > 0 {
			t.Errorf("afterwards:%s", report.lines())
		}
	})
}
