package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// served is what a serving process says of itself, as one line of JSON.
type served struct {
	Address      string
	Blobs, Links int
	Truth        truth
}

// serve serves a registry of a shape on a free port of this machine, says so, and ends
// when in does.
func serve(of shape, in io.Reader, out io.Writer) error {
	space, err := newSpace(of)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	line := served{Address: listener.Addr().String(), Blobs: space.blobs(), Links: space.links(), Truth: space.truth()}
	if err := json.NewEncoder(out).Encode(line); err != nil {
		return err
	}
	server := &http.Server{Handler: newServer(space)}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		ended <- errors.Join(err, server.Close())
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// measurement is one run of regsweep.
type measurement struct {
	served
	cpu, wall time.Duration
	peak      int64 // resident bytes
	report    report
}

// report is what we read of regsweep's own.
type report struct {
	Mark struct {
		Repositories, Tags, Manifests, Blobs int
		Bytes                                int64
	}
	Garbage struct {
		Blobs struct {
			Count int
			Bytes int64
		}
		LayerLinks struct{ Count int } `json:"layer_links"`
	}
	Problems []json.RawMessage
	Requests map[string]int
	Seconds  map[string]float64
}

// measure serves a registry of a shape in a process of its own, and runs regsweep on it.
func measure(ctx context.Context, binary string, of shape) (m measurement, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	server := exec.CommandContext(ctx, self, "-serve", "-blobs", strconv.Itoa(of.Blobs), "-links", strconv.Itoa(of.Links),
		"-repositories", strconv.Itoa(of.Repositories), "-layers", strconv.Itoa(of.Layers), "-garbage", fmt.Sprint(of.Garbage))
	server.Stderr = os.Stderr
	stop, err := server.StdinPipe()
	if err != nil {
		return m, err
	}
	said, err := server.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := server.Start(); err != nil {
		return m, err
	}
	defer func() {
		if closeErr := stop.Close(); err == nil {
			err = closeErr
		}
		if waitErr := server.Wait(); err == nil && waitErr != nil {
			err = fmt.Errorf("server: %w", waitErr)
		}
	}()
	line, err := bufio.NewReader(said).ReadBytes('\n')
	if err != nil {
		return m, fmt.Errorf("the server did not start: %w", err)
	}
	if err := json.Unmarshal(line, &m.served); err != nil {
		return m, err
	}
	if err := m.run(ctx, binary); err != nil {
		return m, err
	}
	return m, m.check()
}

// run runs regsweep. The kernel's peak of a child is at least that of its parent when
// it was started; this process is small, and the server another one.
func (m *measurement) run(ctx context.Context, binary string) error {
	target := "s3://" + bucketName + "?endpoint=http://" + m.Address + "&region=us-east-1&forcepathstyle=true"
	command := exec.CommandContext(ctx, binary, "gc", "--dry-run", "--json", "--quiet", target)
	command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=simulated", "AWS_SECRET_ACCESS_KEY=simulated", "AWS_EC2_METADATA_DISABLED=true")
	var stdout bytes.Buffer
	command.Stdout, command.Stderr = &stdout, os.Stderr
	start := time.Now()
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	m.wall = time.Since(start)
	m.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not say how much memory a process took")
	}
	m.peak = usage.Maxrss * 1024 // Linux counts in KiB
	return json.Unmarshal(stdout.Bytes(), &m.report)
}

// check compares what regsweep says with what is so.
func (m *measurement) check() error {
	r := &m.report
	got := truth{
		Repositories: r.Mark.Repositories, Tags: r.Mark.Tags, Manifests: r.Mark.Manifests,
		LiveBlobs: r.Mark.Blobs, LiveBytes: r.Mark.Bytes,
		GarbageBlobs: r.Garbage.Blobs.Count, GarbageBytes: r.Garbage.Blobs.Bytes, GarbageLinks: r.Garbage.LayerLinks.Count,
	}
	if got != m.Truth {
		return fmt.Errorf("regsweep finds %+v, and there is %+v", got, m.Truth)
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("regsweep meets problems: %s", r.Problems[0])
	}
	return nil
}

func (m *measurement) keys() int { return m.Blobs + m.Links }

func (m *measurement) cpuPerKey() float64 { return float64(m.cpu.Nanoseconds()) / float64(m.keys()) }

// measureAll runs regsweep on each shape in turn, so many times, and prints what the run
// of the median CPU time took of each. A run that takes more memory than the limit ends it.
func measureAll(ctx context.Context, binary string, shapes []shape, rounds, limitMiB int) error {
	runs := make([][]measurement, len(shapes))
	for round := range rounds {
		for i, of := range shapes {
			m, err := measure(ctx, binary, of)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%d  %d blobs: %.1f s, %.0f ns of CPU time for a key, %d MiB\n",
				round+1, m.Blobs, m.wall.Seconds(), m.cpuPerKey(), m.peak>>20)
			if limitMiB > 0 && m.peak > int64(limitMiB)<<20 {
				return fmt.Errorf("it took %d MiB, and %d are allowed", m.peak>>20, limitMiB)
			}
			runs[i] = append(runs[i], m)
		}
	}
	fmt.Printf("%11s %11s %8s %8s %9s %9s %9s %9s %9s %9s %11s\n", "blobs", "links", "repos", "garbage", "lists", "gets",
		"peak MiB", "bytes/key", "wall s", "cpu s", "cpu ns/key")
	var first float64
	for _, of := range runs {
		slices.SortFunc(of, func(a, b measurement) int { return cmp.Compare(a.cpu, b.cpu) })
		m, least, most := of[len(of)/2], of[0].cpuPerKey(), of[len(of)-1].cpuPerKey()
		fmt.Printf("%11d %11d %8d %8d %9d %9d %9.0f %9.1f %9.1f %9.1f %11.0f", m.Blobs, m.Links, m.Truth.Repositories, m.Truth.GarbageBlobs,
			m.report.Requests["list"], m.report.Requests["get"], float64(m.peak)/(1<<20), float64(m.peak)/float64(m.keys()),
			m.wall.Seconds(), m.cpu.Seconds(), m.cpuPerKey())
		if first == 0 {
			first = m.cpuPerKey()
		} else {
			fmt.Printf("  %+.0f%%", 100*(m.cpuPerKey()/first-1))
		}
		fmt.Printf("  (%.0f to %.0f)\n", least, most)
	}
	return nil
}
