package inventory

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// maxNamedStrays is how many strays are reported by name. All of them are counted.
const maxNamedStrays = 1000

// builder collects the pages of a scan, which come from several goroutines.
type builder struct {
	store   storage.Store
	options Options
	inv     *Inventory
	ahead   *ahead // nil unless Options.OnRevision is set

	mu           sync.Mutex // guards all fields below, and inv
	recentBlobs  [][32]byte
	hardLinked   [][32]byte // blobs
	strays       []Problem
	emptyNames   []Problem
	otherProduct string // the first path that only another product writes
	repositories map[string]*repositoryBuilder
}

// repositoryBuilder collects the objects of a repository.
type repositoryBuilder struct {
	mu      sync.Mutex
	r       *Repository
	tags    tagsBuilder
	uploads map[string]*uploadBuilder
	pending []pendingLink
}

type uploadBuilder struct {
	Upload
	startedat *storage.Object
	failure   error // why the upload can't be read
}

// pendingLink is a link that has to be read, or needs a stat, after the scan.
type pendingLink struct {
	object      storage.Object
	entry       located
	needContent bool
	needTime    bool
}

func (b *builder) visitBlobs(page []storage.Object) error {
	blobs := make([]blob, 0, len(page))
	var recent, hardLinked [][32]byte
	for _, object := range page {
		e := layout.Parse(object.Path)
		switch {
		case object.Dir:
			if _, ok := layout.Emptied(object.Path); ok && !b.isRecent(object) {
				b.mu.Lock()
				b.inv.Emptied = append(b.inv.Emptied, strings.Clone(object.Path))
				b.mu.Unlock()
			}
		case object.Multipart != "" && e.Kind == layout.Blob:
			b.mu.Lock()
			b.inv.Uploads = append(b.inv.Uploads, looseUpload(object))
			b.mu.Unlock()
		case object.Multipart != "":
			b.strayOutside(object)
		case e.Kind == layout.Blob && e.Digest.Alg == "sha256":
			next := blob{sha256: layout.DecodeSHA256(e.Digest.Hex), size: object.Size}
			blobs = append(blobs, next)
			if b.isRecent(object) {
				recent = append(recent, next.sha256)
			}
			if object.HardLinked {
				hardLinked = append(hardLinked, next.sha256)
			}
		default:
			if e.Kind == layout.Blob {
				b.addOther(e.Digest)
			}
			b.strayOutside(object)
		}
	}
	b.addBlobs(blobs, recent, hardLinked)
	return nil
}

// addOther records a blob that is stored under another algorithm than sha256.
func (b *builder) addOther(n layout.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inv.others == nil {
		b.inv.others = map[digest.Digest]bool{}
	}
	b.inv.others[digest.NewDigestFromEncoded(digest.Algorithm(strings.Clone(n.Alg)), strings.Clone(n.Hex))] = true
}

// addBlobs adds a page of blobs. recent and hardLinked are the digests of some of them.
func (b *builder) addBlobs(blobs []blob, recent, hardLinked [][32]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inv.blobs.add(blobs...)
	b.recentBlobs = append(b.recentBlobs, recent...)
	b.hardLinked = append(b.hardLinked, hardLinked...)
	b.countBlobs(len(blobs))
}

func (b *builder) countBlobs(n int) {
	if b.options.OnBlobs != nil {
		b.options.OnBlobs(n)
	}
}

// looseUpload is a multipart upload outside of the repositories' uploads.
func looseUpload(object storage.Object) Upload {
	return Upload{
		ID: object.Multipart, Started: object.ModTime, Touched: object.ModTime,
		Objects: []storage.Ref{{Path: object.Path, Multipart: object.Multipart}},
	}
}

func (b *builder) isRecent(object storage.Object) bool {
	return !b.options.Since.IsZero() && object.ModTime.After(b.options.Since)
}

// ErrOtherProduct is the error for a storage that another product has written.
var ErrOtherProduct = errors.New("this is the store of another product, such as angos, and not of Distribution")

// isOtherProduct reports whether only registries such as angos write this path into their
// repositories: _manifests/referrers, _blobs and _config. Their links are JSON, so it is
// unknown what they keep alive.
func isOtherProduct(path string) bool {
	if !strings.HasPrefix(path, storage.RepositoriesDir+"/") || !strings.HasSuffix(path, "/"+layout.LinkFile) {
		return false
	}
	if strings.Contains(path, "/"+layout.ManifestsDir+"/referrers/") {
		return true
	}
	for _, dir := range []string{"/_blobs/", "/_config/"} {
		_, below, found := strings.Cut(path, dir)
		alg, _, _ := strings.Cut(below, "/")
		if found && layout.IsAlgorithm(alg) {
			return true
		}
	}
	return false
}

// addStray counts an object that will be kept. The caller holds b.mu.
func (b *builder) addStray(repository string, object storage.Object) {
	if isOtherProduct(object.Path) && (b.otherProduct == "" || object.Path < b.otherProduct) {
		b.otherProduct = strings.Clone(object.Path)
	}
	b.inv.Strays.Count++
	b.inv.Strays.Bytes += max(object.Size, 0)
	if len(b.strays) < maxNamedStrays {
		b.strays = append(b.strays, Problem{
			Kind: Stray, Repository: repository, Path: strings.Clone(object.Path), Effect: Note,
			Detail: "not part of a registry's layout: kept",
		})
	}
}

// strayOutside counts a stray outside of repositories.
func (b *builder) strayOutside(object storage.Object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addStray("", object)
}

// sealBlobs ends the listing of blobs. From then on digests have ids.
func (b *builder) sealBlobs() {
	b.inv.seal()
	b.inv.hardLinked = make(map[ID]bool, len(b.hardLinked))
	for _, sum := range b.hardLinked {
		if place, found := b.inv.blobs.find(sum); found {
			b.inv.hardLinked[ID(place)] = true
		}
	}
	if b.options.Since.IsZero() {
		return
	}
	b.inv.recent = make([]bool, b.inv.Blobs())
	for _, sum := range b.recentBlobs {
		if i, found := b.inv.blobs.find(sum); found {
			b.inv.recent[i] = true
		}
	}
}

// pageBatch is how many objects of a page are looked up together.
const pageBatch = 64

func (b *builder) visitRepositories(page []storage.Object) error {
	links := 0
	var entries [pageBatch]located
	var rb *repositoryBuilder
	defer func() {
		if rb != nil {
			rb.mu.Unlock()
		}
	}()
	for i, object := range page {
		if i%pageBatch == 0 {
			batch := page[i:min(i+pageBatch, len(page))]
			for j := range batch {
				entries[j] = located{Entry: layout.Parse(batch[j].Path)}
			}
			b.inv.identify(entries[:len(batch)])
		}
		e := entries[i%pageBatch]
		repository := e.Repository
		if repository == "" {
			if !object.Dir {
				b.strayOutside(object)
			} else if isName, ok := layout.Emptied(object.Path); ok && isName {
				b.emptyName(object)
			}
			continue
		}
		// Nearly all objects of a repository follow one another in a page.
		if rb == nil || rb.r.Name != repository {
			if rb != nil {
				rb.mu.Unlock()
			}
			rb = b.repository(repository)
			rb.mu.Lock()
		}
		b.add(rb, object, e)
		links++
	}
	b.countLinks(links)
	return nil
}

func (b *builder) countLinks(n int) {
	if b.options.OnLinks != nil {
		b.options.OnLinks(n)
	}
}

// emptyName records an empty directory in which a repository could be. If a disk is not mounted
// there, the blobs of its repositories look like garbage.
func (b *builder) emptyName(object storage.Object) {
	path := strings.Clone(object.Path)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.emptyNames) < maxNamedStrays {
		b.emptyNames = append(b.emptyNames, Problem{
			Kind: EmptyDirectory, Path: path, Effect: Note,
			Detail: "an empty directory where a repository could be: if a disk belongs here, mount it before anything is removed (--prune-empty removes the directory)",
		})
	}
	if !b.isRecent(object) {
		b.inv.EmptiedNames = append(b.inv.EmptiedNames, path)
	}
}

func (b *builder) repository(name string) *repositoryBuilder {
	b.mu.Lock()
	defer b.mu.Unlock()
	rb := b.repositories[name]
	if rb == nil {
		rb = &repositoryBuilder{r: &Repository{Name: strings.Clone(name)}}
		b.repositories[rb.r.Name] = rb
	}
	return rb
}

// add adds one object to a repository. The caller holds rb.mu.
func (b *builder) add(rb *repositoryBuilder, object storage.Object, e located) {
	if object.Multipart != "" && e.Kind != layout.Upload {
		b.strayIn(rb, object)
		return
	}
	if object.Dir && object.Err != nil {
		rb.upload(path.Base(object.Path)).failure = object.Err
		return
	}
	if object.Dir {
		// A recent empty directory may belong to an upload that has just begun.
		if _, ok := layout.Emptied(object.Path); ok && !b.isRecent(object) {
			rb.r.Emptied = append(rb.r.Emptied, strings.Clone(object.Path))
		}
		return
	}
	if object.ModTime.After(rb.r.Pushed) && isPushed(e.Entry) {
		rb.r.Pushed = object.ModTime
	}
	if e.Kind.IsLink() && b.options.Sizes {
		rb.r.LinkBytes += max(object.Size, 0)
	}
	needTime := !b.options.Since.IsZero() && object.ModTime.IsZero()
	switch e.Kind {
	case layout.Repository: // a file or a "folder/" key of that name
		b.strayIn(rb, object)
	case layout.Layer:
		rb.r.LayerDirs = rb.r.LayerDirs || object.Named
		// The content of a sha256 layer link does not matter while the link is kept: if it
		// names another blob, no client accepts that blob for the digest that it requested.
		// The link is read before it is removed.
		if e.Digest.Alg == "sha256" {
			rb.r.Layers = append(rb.r.Layers, newLink(e.id, provesContent(object, e.Digest)))
			if needTime {
				rb.postpone(object, e, false, true)
			} else {
				b.noteRecent(rb, e, object)
			}
			return
		}
		b.addRead(rb, object, e, needTime)
	case layout.Revision:
		if b.ahead != nil && !object.Named && b.inv.Stored(e.id) {
			b.ahead.add(e.id)
		}
		b.addRead(rb, object, e, needTime)
	case layout.Tag:
		b.addCurrent(rb, rb.tags.named(e.Tag), object)
	case layout.TagIndex:
		rb.tags.named(e.Tag).addIndex(e, object)
	case layout.Signature:
		if rb.r.Signatures == nil {
			rb.r.Signatures = map[ID][]ID{}
		}
		of := b.inv.id(e.Revision)
		rb.r.Signatures[of] = append(rb.r.Signatures[of], e.id)
		b.dateAttached(rb, object, e, needTime)
	case layout.Referrer:
		if rb.r.Referrers == nil {
			rb.r.Referrers = map[ID][]ReferrerLink{}
		}
		link := ReferrerLink{Subject: b.inv.id(e.Revision), Type: strings.Clone(e.Artifact)}
		rb.r.Referrers[e.id] = append(rb.r.Referrers[e.id], link)
		b.dateAttached(rb, object, e, needTime)
	case layout.Upload:
		rb.addUpload(object, e)
	case layout.Stray:
		b.strayIn(rb, object)
		if isStrayLink(e, object.Path) {
			rb.postpone(object, e, true, false)
		}
	}
}

// isStrayLink reports whether a stray is a link in a repository. The digest in it is then kept.
func isStrayLink(e located, path string) bool {
	return e.Repository != "" && strings.HasSuffix(path, "/"+layout.LinkFile) && !strings.Contains(path, "/"+layout.UploadsDir+"/")
}

// dateAttached records whether a link of a signature or a referrer is recent.
func (b *builder) dateAttached(rb *repositoryBuilder, object storage.Object, e located, needTime bool) {
	if needTime {
		rb.postpone(object, e, false, true)
	} else {
		b.noteRecent(rb, e, object)
	}
}

func (b *builder) strayIn(rb *repositoryBuilder, object storage.Object) {
	rb.r.Strays++
	b.mu.Lock()
	b.addStray(rb.r.Name, object)
	b.mu.Unlock()
}

// keptObject is a copy of an object that does not keep its page in memory.
func keptObject(o storage.Object) *storage.Object {
	o.Path, o.ETag = strings.Clone(o.Path), strings.Clone(o.ETag)
	return &o
}

// postpone records a link that has to be read, or needs a stat, after the scan.
func (rb *repositoryBuilder) postpone(object storage.Object, e located, needContent, needTime bool) {
	kept := keptObject(object)
	rb.pending = append(rb.pending, pendingLink{
		object: *kept, entry: located{layout.Parse(kept.Path), e.id}, needContent: needContent, needTime: needTime,
	})
}

// addRead adds a link whose content matters.
func (b *builder) addRead(rb *repositoryBuilder, object storage.Object, e located, needTime bool) {
	isVerified := object.Content != nil || provesContent(object, e.Digest)
	if needTime || !isVerified {
		rb.postpone(object, e, !isVerified, needTime)
		return
	}
	b.addKnown(rb, object, e, isVerified)
}

// addKnown adds a link whose content and time are known as far as they matter. Content may be
// nil if the link was verified to contain the digest in its path.
func (b *builder) addKnown(rb *repositoryBuilder, object storage.Object, e located, isVerified bool) {
	b.noteRecent(rb, e, object)
	own := e.id
	if object.Content != nil && !e.Digest.IsSaidBy(object.Content) {
		target, ok, detail := layout.LinkTarget(object.Content)
		if !ok {
			rb.damaged(object.Path, detail)
		}
		if target != "" {
			id := b.inv.ID(target)
			switch {
			case id == own:
			case e.Kind == layout.Revision:
				rb.r.Doubted = append(rb.r.Doubted, id)
				rb.damaged(object.Path, fmt.Sprintf("names %s, another manifest than its path does", target))
			default:
				if rb.r.Aliases == nil {
					rb.r.Aliases = map[ID]ID{}
				}
				rb.r.Aliases[own] = id
			}
		}
	}
	switch e.Kind {
	case layout.Layer:
		rb.r.Layers = append(rb.r.Layers, newLink(own, isVerified))
	case layout.Revision:
		rb.r.Revisions = append(rb.r.Revisions, newLink(own, isVerified))
	}
}

func (rb *repositoryBuilder) damaged(path, detail string) {
	rb.r.Problems = append(rb.r.Problems, Problem{
		Kind: DamagedLink, Repository: rb.r.Name, Path: strings.Clone(path), Effect: KeepsRepository, Detail: detail,
	})
}

func (b *builder) noteRecent(rb *repositoryBuilder, e located, object storage.Object) {
	if !b.isRecent(object) {
		return
	}
	if rb.r.Recent == nil {
		rb.r.Recent = map[ID]bool{}
	}
	rb.r.Recent[e.id] = true
	if e.Kind == layout.Signature { // the manifest is being pushed
		rb.r.Recent[b.inv.id(e.Revision)] = true
	}
}

func (rb *repositoryBuilder) upload(id string) *uploadBuilder {
	u := rb.uploads[id]
	if u == nil {
		if rb.uploads == nil {
			rb.uploads = map[string]*uploadBuilder{}
		}
		u = &uploadBuilder{Upload: Upload{ID: strings.Clone(id)}}
		rb.uploads[u.ID] = u
	}
	return u
}

func (rb *repositoryBuilder) addUpload(object storage.Object, e located) {
	u := rb.upload(e.Upload)
	if object.Err != nil {
		u.failure = fmt.Errorf("%s: %w", object.Path, object.Err)
	}
	u.Objects = append(u.Objects, storage.Ref{Path: strings.Clone(object.Path), Multipart: object.Multipart})
	u.Bytes += max(object.Size, 0)
	if object.HardLinked {
		u.HardLinkedBytes += object.Size
	}
	if object.ModTime.After(u.Touched) {
		u.Touched = object.ModTime
	}
	if object.Multipart == "" && strings.HasSuffix(object.Path, "/"+e.Upload+"/"+layout.StartedAt) {
		u.startedat = keptObject(object)
	}
}

// provesContent reports whether the ETag in a listing proves that a link contains the digest in
// its path. For an object that was put with one request, without encryption or with SSE-S3, the
// ETag of S3 is the MD5 of the content. Any other ETag can't be equal to this MD5 by accident.
func provesContent(object storage.Object, own layout.Name) bool {
	if object.ETag == "" {
		return false
	}
	if object.Size != int64(len(own.Alg)+1+len(own.Hex)) || len(object.ETag) != 2*md5.Size {
		return false
	}
	var buffer [len("sha512:") + 128]byte
	content := append(append(append(buffer[:0], own.Alg...), ':'), own.Hex...)
	sum := md5.Sum(content)
	var etag [2 * md5.Size]byte
	hex.Encode(etag[:], sum[:])
	return object.ETag == string(etag[:])
}

// readLinks reads the links and the startedat files whose content the scan did not return.
func (b *builder) readLinks(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.options.Concurrency)
	for _, rb := range b.repositories {
		for _, p := range rb.pending {
			g.Go(func() error { return b.readPending(ctx, rb, p) })
		}
		rb.pending = nil
		b.joinTags(&rb.tags)
		for i := range rb.tags.all {
			if t := &rb.tags.all[i]; t.current != nil {
				g.Go(func() error { return b.readTag(ctx, rb, t) })
			}
		}
		for _, u := range rb.uploads {
			if u.startedat != nil && u.startedat.Content == nil {
				g.Go(func() error {
					content, err := b.store.Read(ctx, u.startedat.Path, layout.LinkLimit)
					if err = storage.IgnoreDamage(err); err == nil {
						u.startedat.Content = content
					} else if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
						u.failure, err = err, nil // only this file can't be read
					}
					return err
				})
			}
		}
	}
	return g.Wait()
}

func (b *builder) readPending(ctx context.Context, rb *repositoryBuilder, p pendingLink) error {
	if p.needContent {
		content, err := b.store.Read(ctx, p.object.Path, layout.LinkLimit)
		if errors.Is(err, fs.ErrNotExist) && p.object.Named { // perhaps only the directory exists
			isThere, statErr := IsThere(ctx, b.store, p.object.Path)
			if statErr != nil {
				return statErr
			}
			if !isThere {
				rb.mu.Lock()
				rb.r.Emptied = append(rb.r.Emptied, strings.TrimSuffix(p.object.Path, "/"+layout.LinkFile))
				rb.mu.Unlock()
				return nil
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), storage.IsDamage(err):
			// Nobody deletes from a read-only registry. So if a listed link is not found,
			// the storage fails, and the link may exist.
			rb.mu.Lock()
			rb.damaged(p.object.Path, err.Error())
			rb.mu.Unlock()
		case err != nil:
			return err
		}
		p.object.Content = content
	}
	if p.needTime {
		object, err := b.store.Stat(ctx, p.object.Path)
		isLost := errors.Is(err, fs.ErrNotExist) || storage.IsDamage(err)
		if isLost && p.object.Named && !p.needContent { // perhaps only the directory exists
			exists, _, readErr := CheckLink(ctx, b.store, p.object.Path)
			if readErr != nil {
				return readErr
			}
			if !exists {
				return nil
			}
		}
		switch {
		case isLost:
			// The link was listed or read, and its time is unknown. It may be recent.
			rb.mu.Lock()
			rb.damaged(p.object.Path, err.Error())
			rb.mu.Unlock()
		case err != nil:
			return err
		}
		p.object.ModTime = object.ModTime
	}
	rb.mu.Lock()
	defer rb.mu.Unlock()
	switch {
	case p.entry.Kind == layout.Stray:
		b.pin(rb, p.object)
	case p.needContent || p.entry.Kind == layout.Revision:
		b.addKnown(rb, p.object, p.entry, !p.needContent || p.object.Content != nil)
	default:
		b.noteRecent(rb, p.entry, p.object)
	}
	return nil
}

// pin keeps the digest in a link whose path is not understood. If the link is below
// _manifests, a registry may use it to find any manifest. Then the whole repository is
// kept.
func (b *builder) pin(rb *repositoryBuilder, object storage.Object) {
	target, _, _ := layout.LinkTarget(object.Content)
	_, isManifest := strings.CutPrefix(object.Path, layout.RepositoryPath(rb.r.Name)+"/"+layout.ManifestsDir+"/")
	problem := Problem{
		Kind: UnknownLinkAlgorithm, Repository: rb.r.Name, Path: strings.Clone(object.Path), Effect: Note,
		Detail: fmt.Sprintf("a link whose path is not understood: %s, which it names, is kept", target),
	}
	switch {
	case isManifest:
		problem.Effect = KeepsRepository
		problem.Detail = "a link to a manifest whose path is not understood: all that the repository holds is kept"
		if target != "" {
			rb.r.Doubted = append(rb.r.Doubted, b.inv.ID(target))
		}
	case target != "":
		rb.r.Pinned = append(rb.r.Pinned, b.inv.ID(target))
	default:
		return
	}
	rb.r.Problems = append(rb.r.Problems, problem)
}

// seal makes the repositories from the collected objects.
func (b *builder) seal() {
	inv := b.inv
	var g errgroup.Group // of functions that can't fail
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, rb := range b.repositories {
		inv.Repositories = append(inv.Repositories, rb.r)
		delete(b.repositories, name) // to free its builder
		g.Go(func() error { b.sealRepository(rb); return nil })
	}
	_ = g.Wait()
	slices.SortFunc(inv.Repositories, func(a, b *Repository) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(inv.Emptied)
	slices.Sort(inv.EmptiedNames)
	slices.SortFunc(inv.Uploads, func(a, b Upload) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(b.strays, CompareProblems)
	slices.SortFunc(b.emptyNames, CompareProblems)
	inv.Problems = slices.Concat(inv.Problems, b.emptyNames, b.strays)
	named := func(r *Repository) bool { return len(r.Revisions)+len(r.Layers)+len(r.Tags) > 0 }
	if inv.Blobs() == 0 && slices.ContainsFunc(inv.Repositories, named) {
		inv.Problems = append(inv.Problems, Problem{
			Kind: EmptyDirectory, Path: storage.Root + "/blobs", Effect: Note,
			Detail: "blobs is empty, and repositories name blobs: is its disk mounted?",
		})
	}
}

func (b *builder) sealRepository(rb *repositoryBuilder) {
	r := rb.r
	r.Layers = sealLinks(r.Layers)
	r.Revisions = sealLinks(r.Revisions)
	for of, ids := range r.Signatures {
		slices.Sort(ids)
		r.Signatures[of] = slices.Compact(ids)
	}
	for of, links := range r.Referrers {
		slices.SortFunc(links, func(x, y ReferrerLink) int {
			return cmp.Or(cmp.Compare(b.inv.Digest(x.Subject), b.inv.Digest(y.Subject)), cmp.Compare(x.Type, y.Type))
		})
		r.Referrers[of] = slices.Compact(links)
	}
	rb.sealTags()
	for _, id := range slices.Sorted(maps.Keys(rb.uploads)) {
		r.Uploads = append(r.Uploads, rb.sealUpload(rb.uploads[id]))
	}
	slices.Sort(r.Emptied)
	slices.Sort(r.Pinned)
	slices.Sort(r.Doubted)
	if len(r.Layers) > 0 && len(r.Revisions)+len(r.Tags) == 0 && !r.Kept() {
		r.Problems = append(r.Problems, Problem{
			Kind: NoManifests, Repository: r.Name, Path: layout.RepositoryPath(r.Name), Effect: Note,
			Detail: "it has layers and no manifest: all were deleted, or the first push was cut off",
		})
	}
	if !layout.ValidRepository(r.Name) {
		r.Problems = append(r.Problems, Problem{
			Kind: BadRepositoryName, Repository: r.Name, Path: layout.RepositoryPath(r.Name), Effect: KeepsRepository,
			Detail: "no registry serves a repository of this name: all that it holds is kept",
		})
	}
	slices.SortFunc(r.Problems, CompareProblems)
}

// CompareProblems is an order of problems that does not depend on when they were found.
func CompareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
}

// sealLinks sorts links by ID, and removes duplicates.
func sealLinks(links []Link) []Link {
	slices.Sort(links)
	links = slices.CompactFunc(links, func(a, b Link) bool { return a.ID() == b.ID() })
	if cap(links)-len(links) > len(links)/32 {
		links = slices.Clone(links) // to free the capacity that is not used
	}
	return links
}

// clocksDiffer is how far an upload's startedat may be after its last write. The clocks of the
// registry and of the storage may differ.
const clocksDiffer = 24 * time.Hour

// sealUpload dates an upload by its startedat, as the registry's own purging does
// (registry/storage/purgeuploads.go), or else by its last write. It ignores a startedat in year 1,
// which no registry writes, and a startedat after the last write: such an upload would never be
// old.
func (rb *repositoryBuilder) sealUpload(u *uploadBuilder) Upload {
	// The startedat is removed last. If a run is interrupted, the rest of the upload must not
	// look younger.
	date := layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID + "/" + layout.StartedAt
	isDate := func(r storage.Ref) int {
		if r.Path == date && r.Multipart == "" {
			return 1
		}
		return 0
	}
	slices.SortFunc(u.Objects, func(a, b storage.Ref) int {
		return cmp.Or(cmp.Compare(isDate(a), isDate(b)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Multipart, b.Multipart))
	})
	if u.failure != nil {
		u.Started = time.Time{} // so that it is kept
		rb.r.Problems = append(rb.r.Problems, Problem{
			Kind: UnreadableUpload, Repository: rb.r.Name, Effect: KeepsNamed,
			Path:   layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID,
			Detail: fmt.Sprintf("the upload can't be read and is kept: %v", u.failure),
		})
		return u.Upload
	}
	detail := "the upload does not say when it began: its last write counts"
	if u.startedat != nil {
		started, err := time.Parse(time.RFC3339, string(u.startedat.Content))
		if err == nil && !started.IsZero() && (u.Touched.IsZero() || !started.After(u.Touched.Add(clocksDiffer))) {
			u.Started = started
			return u.Upload
		}
		if err == nil {
			detail = "the upload says that it began " + started.Format(time.RFC3339) + ", which can't be: its last write counts"
		}
	}
	u.Started = u.Touched
	rb.r.Problems = append(rb.r.Problems, Problem{
		Kind: UndatedUpload, Repository: rb.r.Name, Effect: Note,
		Path:   layout.RepositoryPath(rb.r.Name) + "/" + layout.UploadsDir + "/" + u.ID,
		Detail: detail,
	})
	return u.Upload
}
