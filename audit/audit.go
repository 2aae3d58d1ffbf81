// Package audit explains the space that a registry's storage takes: what uses it, why it is kept, and
// what would free it. All its figures come from the inventory and the graph of a run. Only Explain and Draw read.
package audit

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// Facts are what a run has read.
type Facts struct {
	// Inventory: New and the sums of Keepers need Options.Sizes. Explain and Draw measure the blobs that they name.
	Inventory *inventory.Inventory
	Graph     *mark.Graph
	// Live is the result of a mark with all tags and all revisions as roots, and no young links. Its links were
	// checked.
	Live *mark.Live
	// Followers, if set, returns the tags of a repository that live and die with their subject. Then they are
	// no keepers: their content is that of the tags that keep the subject.
	Followers func(repository int) []mark.Follower
	// Outside is the space of everything else in the storage.
	Outside Outside
	// Now and UploadAge tell which uploads a run would remove.
	Now       time.Time
	UploadAge time.Duration

	isKept func(inventory.ID) bool // whether a blob stays without the tags; nil for an audit
}

// Outside has the bytes of everything that the inventory does not have.
type Outside struct {
	Quarantine int64
	Other      int64 // the lock, and files of others below the layout's root
	Versions   int64 // see Bytes
	Multipart  int64
	// NotCounted has "versions" or "multipart" if these bytes are not known.
	NotCounted []string
	// Versioning says whether a bucket keeps versions. It is "" for a storage without versions.
	Versioning storage.Versioning
}

// Bytes is the bill. All values are in bytes. Each blob counts once, except in Logical.
type Bytes struct {
	// Logical is the sum of the pulls of all tags.
	Logical int64 `json:"logical"`
	// Stored are all blobs. It is Live + Garbage, and Live is Tagged + Untagged.
	Stored   int64 `json:"stored"`
	Live     int64 `json:"live"`
	Tagged   int64 `json:"tagged"`
	Untagged int64 `json:"untagged"`
	Garbage  int64 `json:"garbage"`

	Uploads    int64 `json:"uploads"`
	Quarantine int64 `json:"quarantine"`
	Other      int64 `json:"other"` // links, strays, regsweep's own files
	// Total is Stored + Uploads + Quarantine + Other.
	Total int64 `json:"total"`

	// Versions are the noncurrent versions that a bucket keeps, and Multipart the parts of unfinished
	// multipart uploads. Both come on top of Total.
	Versions  int64 `json:"versions"`
	Multipart int64 `json:"multipart"`
}

// Repository is the part of one repository. Its blobs are those that it keeps alive.
type Repository struct {
	Name      string `json:"name"`
	Tags      int    `json:"tags"`
	Manifests int    `json:"manifests"` // revision links
	Logical   int64  `json:"logical"`
	Bytes     int64  `json:"bytes"`
	Unique    int64  `json:"unique"` // kept alive by no other repository
	Shared    int64  `json:"shared"`
	// Fair is the sum of the sizes of its blobs, each divided by the number of repositories that
	// keep it alive. The sum over all repositories is Bytes.Live.
	Fair     float64 `json:"fair"`
	Untagged int64   `json:"untagged"` // reached by no tag of the repository
	// LastPush is the newest time of the links. It is zero if the storage has no times.
	LastPush time.Time `json:"last_push,omitzero"`
	// Growth is the size of the blobs that were written in each of the last twelve months, the
	// current month last, as the times of the blobs say.
	Growth [Months]int64 `json:"growth"`
}

// Months is the number of months in a growth.
const Months = 12

// Blob is one of the largest blobs.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Bytes  int64         `json:"bytes"`
	Kind   Kind          `json:"kind"`
	// Repositories is the number of repositories that keep the blob alive, and Manifests the
	// number of manifests that refer to it.
	Repositories int `json:"repositories"`
	Manifests    int `json:"manifests"`
	// Holders are the first of the repositories, sorted.
	Holders []string `json:"holders"`
}

// Audit is the complete bill.
type Audit struct {
	Bytes        Bytes
	Growth       [Months]int64 // as of a repository, of all live blobs, each once
	Repositories []Repository  // in the order of the inventory
	Blobs        []Blob        // the largest first
	Kinds        []KindBytes
}

// New makes the bill. largest is the number of blobs in Audit.Blobs. The error is the cause of ctx.
func New(ctx context.Context, facts Facts, largest int) (*Audit, error) {
	f := &fold{
		Facts:   facts,
		holders: make([]uint32, facts.Inventory.Blobs()),
		tagged:  make([]bool, facts.Inventory.Blobs()),
		kinds:   kindsOf(facts.Inventory, facts.Graph),
		out:     &Audit{Repositories: make([]Repository, len(facts.Inventory.Repositories)), Blobs: []Blob{}},
	}
	f.blobs = f.largest(largest)
	err := facts.Live.EachKept(ctx, facts.Graph, func(_ int, kept []inventory.ID) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, id := range kept {
			f.holders[id]++
		}
	})
	if err != nil {
		return nil, err
	}
	if err := facts.Live.EachKept(ctx, facts.Graph, f.repository); err != nil {
		return nil, err
	}
	f.sumBlobs()
	f.sumOthers()
	return f.out, nil
}

// fold adds up an audit.
type fold struct {
	Facts
	kinds []uint8 // by blob: the index in Kinds
	out   *Audit

	mu      sync.Mutex // guards all fields below while repositories are added up
	holders []uint32   // by blob: the number of repositories that keep it alive
	tagged  []bool     // by blob: whether a tag reaches it
	blobs   map[inventory.ID]*Blob
}

// size returns the size of a stored blob in bytes. It is 0 if only the directory of the blob exists.
func (f Facts) size(id inventory.ID) int64 {
	if size, exact := f.Inventory.Size(id); exact {
		return size
	}
	return 0
}

// repository adds up one repository, once holders is complete.
func (f *fold) repository(i int, kept []inventory.ID) {
	r := f.Inventory.Repositories[i]
	out := Repository{Name: r.Name, Tags: len(r.Tags), Manifests: len(r.Revisions), LastPush: r.Pushed}
	view := f.Graph.View(i)
	out.Logical = f.logical(view, r)
	tagged := view.Kept(rootsOf(r)...)
	for _, id := range kept {
		size, holders := f.size(id), f.holders[id]
		out.Bytes += size
		out.Fair += float64(size) / float64(holders)
		if holders == 1 {
			out.Unique += size
		}
		if _, isTagged := slices.BinarySearch(tagged, id); !isTagged {
			out.Untagged += size
		}
		if month, isShown := f.month(f.Inventory.BlobDay(id)); isShown {
			out.Growth[month] += size
		}
	}
	out.Shared = out.Bytes - out.Unique
	f.out.Repositories[i] = out

	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range tagged {
		if f.Inventory.Stored(id) {
			f.tagged[id] = true
		}
	}
	for _, id := range kept {
		if blob := f.blobs[id]; blob != nil {
			blob.Holders = append(blob.Holders, r.Name)
		}
	}
}

// month returns the index in Growth of the month of a day (UTC).
func (f Facts) month(day time.Time) (index int, isShown bool) {
	now := f.Now.UTC()
	ago := 12*(now.Year()-day.Year()) + int(now.Month()) - int(day.Month())
	return Months - 1 - ago, !day.IsZero() && ago >= 0 && ago < Months
}

// rootsOf returns the manifests that the tags of a repository keep alive.
func rootsOf(r *inventory.Repository) (roots []inventory.ID) {
	for _, tag := range r.Tags {
		roots = append(roots, tag.Roots()...)
	}
	return roots
}

// logical returns the sum of the pulls of all tags in bytes. A tag without a target can't be pulled.
func (f *fold) logical(view *mark.View, r *inventory.Repository) (sum int64) {
	pulls := map[inventory.ID]int64{}
	for _, tag := range r.Tags {
		if !tag.HasTarget {
			continue
		}
		bytes, known := pulls[tag.Target]
		if !known {
			bytes = f.sum(view.Pulled(tag.Target))
			pulls[tag.Target] = bytes
		}
		sum += bytes
	}
	return sum
}

// sum returns the bytes of those blobs that are stored.
func (f Facts) sum(ids []inventory.ID) (sum int64) {
	for _, id := range ids {
		if f.Inventory.Stored(id) {
			sum += f.size(id)
		}
	}
	return sum
}

// largest returns the largest blobs, without their holders.
func (f *fold) largest(n int) map[inventory.ID]*Blob {
	ids := make([]inventory.ID, 0, n+1)
	for id := range inventory.ID(f.Inventory.Blobs()) {
		if len(ids) == n && (n == 0 || f.compareSizes(id, ids[n-1]) > 0) {
			continue
		}
		rank, _ := slices.BinarySearchFunc(ids, id, f.compareSizes)
		ids = slices.Insert(ids, rank, id)
		ids = ids[:min(n, len(ids))]
	}
	blobs := make(map[inventory.ID]*Blob, len(ids))
	for _, id := range ids {
		blobs[id] = &Blob{Digest: f.Inventory.Digest(id), Bytes: f.size(id), Kind: Kinds[f.kinds[id]], Holders: []string{}}
	}
	return blobs
}

// mostHolders is the number of repositories in Blob.Holders.
const mostHolders = 10

// sumBlobs adds up all blobs, after the repositories.
func (f *fold) sumBlobs() {
	bytes := &f.out.Bytes
	kinds := make([]KindBytes, len(Kinds))
	for id := range inventory.ID(f.Inventory.Blobs()) {
		size := f.size(id)
		kind := &kinds[f.kinds[id]]
		kind.Blobs++
		kind.Bytes += size
		bytes.Stored += size
		if !f.Live.Blob(id).Alive() {
			bytes.Garbage += size
			kind.Garbage += size
			continue
		}
		bytes.Live += size
		if month, isShown := f.month(f.Inventory.BlobDay(id)); isShown {
			f.out.Growth[month] += size
		}
		if f.tagged[id] {
			bytes.Tagged += size
		}
	}
	bytes.Untagged = bytes.Live - bytes.Tagged
	for i, kind := range kinds {
		kind.Kind = Kinds[i]
		f.out.Kinds = append(f.out.Kinds, kind)
	}
	references := f.references()
	for id, blob := range f.blobs {
		slices.Sort(blob.Holders)
		blob.Repositories, blob.Manifests = len(blob.Holders), references[id]
		blob.Holders = blob.Holders[:min(mostHolders, len(blob.Holders))]
		f.out.Blobs = append(f.out.Blobs, *blob)
	}
	slices.SortFunc(f.out.Blobs, func(a, b Blob) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Digest, b.Digest))
	})
}

// references returns the number of manifests that refer to each of the largest blobs.
func (f *fold) references() map[inventory.ID]int {
	counts, last := map[inventory.ID]int{}, map[inventory.ID]inventory.ID{}
	eachUse(f.Inventory, f.Graph, func(by, of inventory.ID, _ Kind) {
		if f.blobs[of] == nil || by == of {
			return
		}
		if before, isUsed := last[of]; !isUsed || before != by {
			counts[of]++
			last[of] = by
		}
	})
	return counts
}

// sumOthers adds up everything that is not a blob, and the total.
func (f *fold) sumOthers() {
	bytes := &f.out.Bytes
	for _, r := range f.out.Repositories {
		bytes.Logical += r.Logical
	}
	bytes.Quarantine, bytes.Versions, bytes.Multipart = f.Outside.Quarantine, f.Outside.Versions, f.Outside.Multipart
	bytes.Other = f.Outside.Other + f.Inventory.Strays.Bytes
	for _, r := range f.Inventory.Repositories {
		bytes.Other += r.LinkBytes
		for _, u := range r.Uploads {
			bytes.Uploads += u.Bytes
		}
	}
	bytes.Total = bytes.Stored + bytes.Uploads + bytes.Quarantine + bytes.Other
}
