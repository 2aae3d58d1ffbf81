package sweep

import (
	"context"
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// Reason is why an object that no tag reaches is kept.
type Reason string

// The reasons. They answer the question "why is so little eligible?".
const (
	KeptUntagged  Reason = "untagged"  // removed with --delete-untagged
	KeptProtected Reason = "protected" // untagged, in a repository that Options.Protected names
	KeptAge       Reason = "age"       // younger than --min-age, or a link of that age names it
	KeptDamage    Reason = "damage"    // a damaged repository could reach it
	// KeptUnlinkedChild is the reason for a manifest that was deleted through the registry's API while
	// an index still names it. It is removed with --delete-unlinked-children.
	KeptUnlinkedChild Reason = "unlinked_child"
	KeptUpload        Reason = "upload"   // an upload younger than --upload-age
	KeptStray         Reason = "stray"    // not part of the layout
	KeptUnselected    Reason = "unlisted" // garbage that Options.Only does not select
	KeptLinked        Reason = "linked"   // the target of a link that Options.Only does not select
	// KeptMultipart is the reason for an upload with an S3 multipart upload, which can't be moved.
	KeptMultipart Reason = "multipart"
	// KeptLimit is the reason for garbage that Options.MaxBytes leaves to the next run.
	KeptLimit Reason = "max_bytes"
)

// Kept counts the objects that are kept for one reason in one repository. A blob that several
// repositories keep for the same reason counts for the first of them by name. So the sum of the
// rows counts no blob twice.
type Kept struct {
	Reason     Reason `json:"reason"`
	Repository string `json:"repository"`
	// Blobs is the number of blobs, of uploads, or of stray objects.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	// Links is the number of revision and layer links.
	Links int `json:"links"`
	// ClaimedBytes is the part of Bytes that comes from manifests, not from the storage.
	ClaimedBytes int64 `json:"claimed_bytes,omitempty"`
}

// keptReasons has the causes of the mark that the summary explains. What a protected repository keeps counts first:
// --delete-untagged does not remove it, even if another repository keeps it too.
var keptReasons = []struct {
	cause  mark.Cause
	reason Reason
}{{mark.Untagged, KeptProtected}, {mark.Untagged, KeptUntagged}, {mark.Recent, KeptAge}, {mark.UnlinkedChild, KeptUnlinkedChild}, {mark.Damage, KeptDamage}}

// count sets the totals of the plan.
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
	for i := range p.blobs {
		if p.hardLinked.has(i) {
			p.HardLinked.Add(1, p.blobBytes(i))
		}
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
	for _, kept := range p.keptBlobs {
		p.Live.Blobs += kept.Count
		p.Live.Bytes = addBytes(p.Live.Bytes, kept.Bytes)
	}
	p.countKept(sizes)
	return nil
}

// RepositoryGarbage counts the garbage of one repository. A blob that several repositories link
// to counts for the first of them by name. So the sum of the rows counts no blob twice.
type RepositoryGarbage struct {
	Repository string `json:"repository"`
	Blobs      int    `json:"blobs"`
	Bytes      int64  `json:"bytes"`
	// Links is the number of links of all kinds.
	Links   int   `json:"links"`
	Uploads Tally `json:"uploads"`
}

// countByRepository sets ByRepository and Unlinked.
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

// countLive counts the live blobs, and returns a function for their sizes in bytes. A size comes from
// the listing or from the manifests that name the blob. If neither has it, the blob is statted.
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
	stats, err := p.statBlobs(ctx, unknown)
	if err != nil {
		return nil, err
	}
	statted := map[inventory.ID]int64{}
	for i, id := range unknown {
		statted[id] = stats[i].bytes
		p.Live.Bytes = addBytes(p.Live.Bytes, stats[i].bytes)
	}
	return func(id inventory.ID) int64 {
		if size, _ := p.inv.Size(id); size >= 0 {
			return size
		}
		return statted[id]
	}, nil
}

func (p *planner) countKept(sizes func(inventory.ID) int64) {
	counted := make([]bool, p.inv.Blobs()) // a blob has one cause, in several repositories
	links := make([]byCause, len(p.live.Repositories))
	for i, live := range p.live.Repositories {
		links[i] = countCauses(live.Revisions, live.Layers)
	}
	for _, k := range keptReasons {
		for i, live := range p.live.Repositories {
			isProtected := p.Options.Protected != nil && p.Options.Protected(i)
			if k.cause == mark.Untagged && isProtected != (k.reason == KeptProtected) {
				continue
			}
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
			p.addKept(row)
		}
	}
	for _, reason := range []Reason{KeptAge, KeptUnselected, KeptLinked, KeptLimit} {
		p.addKept(Kept{Reason: reason, Blobs: p.keptBlobs[reason].Count, Bytes: p.keptBlobs[reason].Bytes})
	}
	for i, links := range p.unselected {
		p.addKept(Kept{Reason: KeptUnselected, Repository: p.inv.Repositories[i].Name, Links: links})
	}
	p.countKeptUploads()
	p.addKept(Kept{Reason: KeptStray, Blobs: p.inv.Strays.Count, Bytes: p.inv.Strays.Bytes})
}

// byCause has the number of links with each cause.
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
		for _, reason := range []Reason{KeptUpload, KeptMultipart, KeptUnselected, KeptLimit} {
			row := Kept{Reason: reason, Repository: name}
			for at, u := range uploads {
				if p.keepsUpload(upload{repository, at}) == reason {
					row.Blobs++
					row.Bytes += u.Bytes
				}
			}
			p.addKept(row)
		}
	}
	count(-1, "", p.inv.Uploads)
	for i, r := range p.inv.Repositories {
		count(i, r.Name, r.Uploads)
	}
}

// addKept adds a row to Kept, unless its counts are 0.
func (p *planner) addKept(row Kept) {
	if row.Blobs > 0 || row.Links > 0 {
		p.Kept = append(p.Kept, row)
	}
}
