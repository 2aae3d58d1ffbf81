package main

import "fmt"

// verdict is one thing that regsweep set out to reach, and whether it did.
type verdict struct {
	Target   string
	Measured string // "" where nothing was
	Met      bool
}

// verdicts are all targets, in the order in which they were set.
func (r Results) verdicts() []verdict {
	var all []verdict
	atLeast := func(text, key, peer string, least float64) {
		v := verdict{Target: fmt.Sprintf("%s: at least %g times %s", text, least, peer)}
		if _, c, found := r.find(key); found {
			if times, found := c.times(peer, nameRegsweep); found {
				v.Measured, v.Met = factor(times), times >= least
			}
		}
		all = append(all, v)
	}
	withinFloor := func(text, key string, most float64) {
		v := verdict{Target: fmt.Sprintf("%s: within %g times the least work", text, most)}
		if _, c, found := r.find(key); found {
			if times, found := c.times(nameRegsweep, nameFloor); found {
				v.Measured, v.Met = fmt.Sprintf("%.2f times", times), times <= most
			}
		}
		all = append(all, v)
	}
	for _, state := range []string{"warm", "cold"} {
		plain, m := "fs "+state, "fs "+state+" -m"
		text := "filesystem, " + state + " cache"
		atLeast(text, plain, nameRelease3, 30)
		atLeast(text, plain, nameRelease2, 6)
		withinFloor(text, plain, 1.5)
		atLeast(text+", -m", m, nameRelease3, 20)
		atLeast(text+", -m", m, nameRelease2, 15)
		withinFloor(text+", -m", m, 1.5)
	}
	atLeast("one repository, -m", "repo -m", nameRelease3, 400)
	atLeast("filesystem, removal", "removal", nameRelease3, 5)
	atLeast("filesystem, removal in memory", "removal memory", nameRelease3, 5)
	atLeast("S3, 15 ms", "s3 15ms", nameRelease3, 300)
	atLeast("S3, 0 ms", "s3 0ms", nameRelease3, 15)
	return append(all, r.requestVerdicts()...)
}

// requestVerdicts are those on how many requests S3 is sent.
func (r Results) requestVerdicts() []verdict {
	first := verdict{Target: "S3, first dry run: at most 1.05 × (keys/1,000 + manifests) + 300 requests"}
	links := verdict{Target: "S3, first dry run: no link is read that its ETag settles"}
	second := verdict{Target: "S3, second dry run with the cache: requests for the listing alone"}
	removal := verdict{Target: "S3, removal: at most 1.1 × keys/1,000 requests for deletion"}
	sent := func(c Case, name string) (Requests, bool) {
		p, ran := c.program(name)
		if !ran {
			return Requests{}, false
		}
		return p.requests()
	}
	if section, c, found := r.find("s3 0ms"); found {
		if requests, counted := sent(c, nameRegsweep); counted {
			limit := 1.05*(float64(section.Size.Files)/1000+float64(section.Size.Manifests)) + 300
			first.Measured = fmt.Sprintf("%s of %s", number(int(requests.Total())), number(int(limit)))
			first.Met = float64(requests.Total()) <= limit
			links.Measured, links.Met = fmt.Sprintf("%d read", requests.Links), requests.Links == 0
		}
		if requests, counted := sent(c, nameSecond); counted {
			second.Measured = fmt.Sprintf("%d for the listing, %d others", requests.List, requests.Total()-requests.List)
			second.Met = requests.Total() == requests.List
		}
	}
	if _, c, found := r.find("s3 removal"); found {
		if requests, counted := sent(c, nameRegsweep); counted {
			limit := 1.1 * float64(c.Garbage.Keys()) / 1000
			removal.Measured, removal.Met = fmt.Sprintf("%d of %.1f", requests.Delete, limit), float64(requests.Delete) <= limit
		}
	}
	return []verdict{first, links, second, removal}
}
