package sweep

import (
	"context"
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// Reason is why something that is not reached from a tag stays nevertheless.
type Reason string

// The reasons, which answer "why is so little eligible?".
const (
	KeptUntagged Reason = "untagged" // goes with --delete-untagged
	KeptAge      Reason = "age"      // younger than --min-age, or named by a link that is
	KeptDamage   Reason = "damage"   // a damaged repository could reach it
	// KeptUnlinked is of a manifest that was deleted through the registry's API, and that an
	// index still has. It is removed with --delete-unlinked-children.
	KeptUnlinked Reason = "unlinked_child"
	KeptUpload   Reason = "upload"   // of an upload younger than --upload-age
	KeptStray    Reason = "stray"    // not part of the layout
	KeptUnlisted Reason = "unlisted" // garbage that Options.Only does not name
	KeptLinked   Reason = "linked"   // a link leads to it that Options.Only does not name
	// KeptMultipart is of an upload with an S3 multipart upload, which can't be moved.
	KeptMultipart Reason = "multipart"
)

// Kept counts what stays for one reason in one repository. What several
// repositories keep for the same reason counts for the first of them by name, so
// that rows can be added up.
type Kept struct {
	Reason     Reason `json:"reason"`
	Repository string `json:"repository"`
	// Blobs is the number of blobs, of uploads, or of stray objects.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	// Links is the number of revision and layer links.
	Links int `json:"links"`
	// ClaimedBytes are those of Bytes that manifests claim and nobody has measured.
	ClaimedBytes int64 `json:"claimed_bytes,omitempty"`
}

// keptReasons are the causes that the summary explains.
var keptReasons = []struct {
	cause  mark.Cause
	reason Reason
}{{mark.Untagged, KeptUntagged}, {mark.Recent, KeptAge}, {mark.Unlinked, KeptUnlinked}, {mark.Damage, KeptDamage}}

// count fills in all that a plan tells beside its removals.
func (p *planner) count(ctx context.Context) error {
	for _, kind := range table {
		tally := Tally{Count: kind.len(p.Plan)}
		if kind.bytes != nil {
			for i := range tally.Count {
				tally.Bytes += kind.bytes(p.Plan, i)
			}
		}
		p.Garbage[kind.kind] = tally
	}
	for i := range p.uploads {
		if u, _ := p.upload(i); u.HardLinkedBytes > 0 {
			p.HardLinked.Add(1, u.HardLinkedBytes)
		}
	}
	p.Garbage[EmptyDirectory] = Tally{Count: len(p.emptyNames)}
	p.countByRepository()
	sizes, err := p.countLive(ctx)
	if err != nil {
		return err
	}
	p.Live.Repositories, p.Live.Manifests = len(p.inv.Repositories), p.live.Manifests
	for _, r := range p.inv.Repositories {
		p.Live.Tags += len(r.Tags)
	}
	p.Live.Tags -= len(p.tags)
	for _, staying := range p.staying {
		p.Live.Blobs += staying.Count
		p.Live.Bytes = addBytes(p.Live.Bytes, staying.Bytes)
	}
	p.countKept(sizes)
	return nil
}

// RepositoryGarbage counts what is removed from one repository. A blob that several repositories link
// to counts for the first of them by name, so that rows can be added up.
type RepositoryGarbage struct {
	Repository string `json:"repository"`
	Blobs      int    `json:"blobs"`
	Bytes      int64  `json:"bytes"`
	// Links is the number of links of all kinds.
	Links   int   `json:"links"`
	Uploads Tally `json:"uploads"`
}

// countByRepository counts what is removed by repository, and the blobs to which no link leads.
func (p *planner) countByRepository() {
	rows := make([]RepositoryGarbage, len(p.inv.Repositories))
	for i := range rows {
		rows[i].Repository = p.inv.Repositories[i].Name
	}
	for _, kind := range table {
		if kind.form == Links {
			kind.count(p.Plan, func(repository, n int) { rows[repository].Links += n })
		}
	}
	for _, at := range p.uploads {
		if at.repository >= 0 {
			u, _ := p.uploadAt(at)
			rows[at.repository].Uploads.Add(1, u.Bytes)
		}
	}
	if len(p.blobs) > 0 {
		p.countBlobsByRepository(rows)
	}
	for _, row := range rows {
		if row.Blobs+row.Links+row.Uploads.Count > 0 {
			p.ByRepository = append(p.ByRepository, row)
		}
	}
}

func (p *planner) countBlobsByRepository(rows []RepositoryGarbage) {
	unlinked := make(bits, p.inv.Blobs()/64+1)
	for _, id := range p.blobs {
		unlinked.add(int(id))
	}
	for i, r := range p.inv.Repositories {
		add := func(id inventory.ID) {
			if !unlinked.has(int(id)) {
				return
			}
			unlinked.remove(int(id))
			at, _ := slices.BinarySearch(p.blobs, id)
			rows[i].Blobs++
			rows[i].Bytes += p.blobBytes(at)
		}
		for _, link := range r.Revisions {
			add(link.ID())
		}
		for _, link := range r.Layers {
			add(link.ID())
		}
		for _, to := range r.Aliases {
			add(to)
		}
		for _, signatures := range r.Signatures {
			for _, signature := range signatures {
				add(signature)
			}
		}
		for referrer := range r.Referrers {
			add(referrer)
		}
		for _, tag := range r.Tags {
			for _, link := range tag.Index {
				add(link.ID())
			}
		}
	}
	for i, id := range p.blobs {
		if unlinked.has(int(id)) {
			p.Unlinked.Add(1, p.blobBytes(i))
		}
	}
}

// countLive counts the live blobs, and returns the size of each: from the listing, from the
// manifests that name it or, for the few that no intact manifest names, by looking.
func (p *planner) countLive(ctx context.Context) (func(inventory.ID) int64, error) {
	var unknown []inventory.ID
	for id, size := range p.inv.Sizes() {
		if p.live.Blob(id) == mark.Dead {
			continue
		}
		p.Live.Blobs++
		if size < 0 {
			unknown = append(unknown, id)
			continue
		}
		p.Live.Bytes = addBytes(p.Live.Bytes, size)
		if _, exact := p.inv.Size(id); !exact {
			p.Live.ClaimedBytes = addBytes(p.Live.ClaimedBytes, size)
		}
	}
	looks, err := p.lookAtBlobs(ctx, unknown)
	if err != nil {
		return nil, err
	}
	looked := map[inventory.ID]int64{}
	for i, id := range unknown {
		looked[id] = looks[i].bytes
		p.Live.Bytes = addBytes(p.Live.Bytes, looks[i].bytes)
	}
	return func(id inventory.ID) int64 {
		if size, _ := p.inv.Size(id); size >= 0 {
			return size
		}
		return looked[id]
	}, nil
}

func (p *planner) countKept(sizes func(inventory.ID) int64) {
	counted := make([]bool, p.inv.Blobs()) // each has one cause
	links := make([]byCause, len(p.live.Repositories))
	for i, live := range p.live.Repositories {
		links[i] = countCauses(live.Revisions, live.Layers)
	}
	for _, k := range keptReasons {
		for i, live := range p.live.Repositories {
			row := Kept{Reason: k.reason, Repository: p.inv.Repositories[i].Name, Links: links[i][k.cause]}
			for _, id := range live.Only[k.cause] {
				if p.inv.Stored(id) && p.live.Blob(id) == k.cause && !counted[id] {
					counted[id] = true
					row.Blobs++
					row.Bytes = addBytes(row.Bytes, sizes(id))
					if size, exact := p.inv.Size(id); size >= 0 && !exact {
						row.ClaimedBytes = addBytes(row.ClaimedBytes, size)
					}
				}
			}
			p.keep(row)
		}
	}
	for _, reason := range []Reason{KeptAge, KeptUnlisted, KeptLinked} {
		p.keep(Kept{Reason: reason, Blobs: p.staying[reason].Count, Bytes: p.staying[reason].Bytes})
	}
	for i, links := range p.unlisted {
		p.keep(Kept{Reason: KeptUnlisted, Repository: p.inv.Repositories[i].Name, Links: links})
	}
	p.countKeptUploads()
	p.keep(Kept{Reason: KeptStray, Blobs: p.inv.Strays.Count, Bytes: p.inv.Strays.Bytes})
}

// byCause counts what has each cause.
type byCause [mark.Absent + 1]int

func countCauses(lists ...mark.Causes) (counts byCause) {
	for _, list := range lists {
		for _, cause := range list.All() {
			counts[cause]++
		}
	}
	return counts
}

func (p *planner) countKeptUploads() {
	count := func(repository int, name string, uploads []inventory.Upload) {
		for _, reason := range []Reason{KeptUpload, KeptMultipart, KeptUnlisted} {
			row := Kept{Reason: reason, Repository: name}
			for at, u := range uploads {
				if p.keepsUpload(upload{repository, at}) == reason {
					row.Blobs++
					row.Bytes += u.Bytes
				}
			}
			p.keep(row)
		}
	}
	count(-1, "", p.inv.Uploads)
	for i, r := range p.inv.Repositories {
		count(i, r.Name, r.Uploads)
	}
}

// keep adds a row that says something.
func (p *planner) keep(row Kept) {
	if row.Blobs > 0 || row.Links > 0 {
		p.Kept = append(p.Kept, row)
	}
}
