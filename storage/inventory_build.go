package storage

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

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// maxNamedStrays bounds how many strays are named; all are counted.
const maxNamedStrays = 1000

// inventoryBuilder collects pages that come from several goroutines.
type inventoryBuilder struct {
	store   Store
	options InventoryOptions
	inv     *Inventory
	ahead   *ahead // nil unless InventoryOptions.OnRevision is set

	mu           sync.Mutex // guards all below, and inv
	recentBlobs  [][32]byte
	strays       []Problem
	emptyNames   []Problem
	otherProduct string // the first path by which another product's store is known
	repositories map[string]*repositoryBuilder
}

// repositoryBuilder is a repository in the making.
type repositoryBuilder struct {
	mu      sync.Mutex
	r       *Repository
	tags    tagsBuilder
	uploads map[string]*uploadBuilder
	pending []pendingLink
}

type uploadBuilder struct {
	Upload
	startedat *Object
	failure   error // why it can't be read
}

// pendingLink is a link of which more has to be learnt than the scan told.
type pendingLink struct {
	object      Object
	entry       located
	needContent bool
	needTime    bool
}

func (b *inventoryBuilder) visitBlobs(page []Object) error {
	blobs := make([]blob, 0, len(page))
	var recent [][32]byte
	for _, object := range page {
		e := parsePath(object.Path)
		switch {
		case object.Dir:
			if _, ok := emptied(object.Path); ok && !b.isRecent(object) {
				b.mu.Lock()
				b.inv.Emptied = append(b.inv.Emptied, strings.Clone(object.Path))
				b.mu.Unlock()
			}
		case object.Multipart != "" && e.kind == kindBlob:
			b.mu.Lock()
			b.inv.Uploads = append(b.inv.Uploads, looseUpload(object))
			b.mu.Unlock()
		case object.Multipart != "":
			b.strayOutside(object)
		case e.kind == kindBlob && e.digest.alg == "sha256":
			next := blob{sha256: decodeSHA256(e.digest.hex), size: object.Size}
			blobs = append(blobs, next)
			if b.isRecent(object) {
				recent = append(recent, next.sha256)
			}
		default:
			if e.kind == kindBlob {
				b.addOther(e.digest)
			}
			b.strayOutside(object)
		}
	}
	b.addBlobs(blobs, recent)
	return nil
}

// addOther notes a blob that is stored under another algorithm than sha256.
func (b *inventoryBuilder) addOther(n name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inv.others == nil {
		b.inv.others = map[digest.Digest]bool{}
	}
	b.inv.others[digest.NewDigestFromEncoded(digest.Algorithm(strings.Clone(n.alg)), strings.Clone(n.hex))] = true
}

// addBlobs adds a page of blobs, and those among them that are recent.
func (b *inventoryBuilder) addBlobs(blobs []blob, recent [][32]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inv.blobs.add(blobs...)
	b.recentBlobs = append(b.recentBlobs, recent...)
	b.countBlobs(len(blobs))
}

func (b *inventoryBuilder) countBlobs(n int) {
	if b.options.OnBlobs != nil {
		b.options.OnBlobs(n)
	}
}

// looseUpload is a multipart upload outside of any repository's uploads.
func looseUpload(object Object) Upload {
	return Upload{
		ID: object.Multipart, Started: object.ModTime, Touched: object.ModTime,
		Objects: []Ref{{Path: object.Path, Multipart: object.Multipart}},
	}
}

func (b *inventoryBuilder) isRecent(object Object) bool {
	return !b.options.Since.IsZero() && object.ModTime.After(b.options.Since)
}

// ErrOtherProduct is matched by the error for the store of another product.
var ErrOtherProduct = errors.New("this is the store of another product, such as angos, and not of Distribution")

// isOtherProduct reports whether a path is one that registries like angos write into their
// repositories: _manifests/referrers, _blobs and _config. Their links are JSON, so that
// nothing tells what they keep alive.
func isOtherProduct(path string) bool {
	if !strings.HasPrefix(path, RepositoriesDir+"/") || !strings.HasSuffix(path, "/"+linkFile) {
		return false
	}
	if strings.Contains(path, "/"+manifestsDir+"/referrers/") {
		return true
	}
	for _, dir := range []string{"/_blobs/", "/_config/"} {
		_, below, found := strings.Cut(path, dir)
		alg, _, _ := strings.Cut(below, "/")
		if found && isAlgorithm(alg) {
			return true
		}
	}
	return false
}

// addStray counts an object that nobody will remove. The caller holds b.mu.
func (b *inventoryBuilder) addStray(repository string, object Object) {
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

// strayOutside counts what lies in no repository.
func (b *inventoryBuilder) strayOutside(object Object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addStray("", object)
}

// sealBlobs ends the listing of blobs: from here on, digests have ids.
func (b *inventoryBuilder) sealBlobs() {
	b.inv.seal()
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

func (b *inventoryBuilder) visitRepositories(page []Object) error {
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
				entries[j] = located{entry: parsePath(batch[j].Path)}
			}
			b.inv.identify(entries[:len(batch)])
		}
		e := entries[i%pageBatch]
		repository := e.repository
		if repository == "" {
			if !object.Dir {
				b.strayOutside(object)
			} else if isName, ok := emptied(object.Path); ok && isName {
				b.emptyName(object)
			}
			continue
		}
		// Pages run through one repository after the other.
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

// emptyName notes an empty directory where a repository could be. If a disk is not mounted
// there, the blobs of its repositories look like garbage.
func (b *inventoryBuilder) emptyName(object Object) {
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

func (b *inventoryBuilder) repository(name string) *repositoryBuilder {
	b.mu.Lock()
	defer b.mu.Unlock()
	rb := b.repositories[name]
	if rb == nil {
		rb = &repositoryBuilder{r: &Repository{Name: strings.Clone(name)}}
		b.repositories[rb.r.Name] = rb
	}
	return rb
}

// add puts one object where it belongs. The caller holds rb.mu.
func (b *inventoryBuilder) add(rb *repositoryBuilder, object Object, e located) {
	if object.Multipart != "" && e.kind != kindUpload {
		b.strayIn(rb, object)
		return
	}
	if object.Dir && object.Err != nil {
		rb.upload(path.Base(object.Path)).failure = object.Err
		return
	}
	if object.Dir {
		// A young one may be an upload's that was begun at this moment.
		if _, ok := emptied(object.Path); ok && !b.isRecent(object) {
			rb.r.Emptied = append(rb.r.Emptied, strings.Clone(object.Path))
		}
		return
	}
	if object.ModTime.After(rb.r.Pushed) && isPushed(e.entry) {
		rb.r.Pushed = object.ModTime
	}
	needTime := !b.options.Since.IsZero() && object.ModTime.IsZero()
	switch e.kind {
	case kindRepository: // a file or a "folder/" key of that name
		b.strayIn(rb, object)
	case kindLayer:
		rb.r.LayerDirs = rb.r.LayerDirs || object.Named
		// What a sha256 link says beyond its path can't matter while it is alive:
		// its content could only name another blob, which no client would accept
		// for the digest it asked for. Before such a link goes it is read.
		if e.digest.alg == "sha256" {
			rb.r.Layers = append(rb.r.Layers, newLink(e.id, settles(object, e.digest)))
			if needTime {
				rb.wait(object, e, false, true)
			} else {
				b.noteRecent(rb, e, object)
			}
			return
		}
		b.addRead(rb, object, e, needTime)
	case kindRevision:
		if b.ahead != nil && !object.Named && b.inv.Stored(e.id) {
			b.ahead.add(e.id)
		}
		b.addRead(rb, object, e, needTime)
	case kindTag:
		b.addCurrent(rb, rb.tags.named(e.tag), object)
	case kindTagIndex:
		rb.tags.named(e.tag).addIndex(e, object)
	case kindSignature:
		if rb.r.Signatures == nil {
			rb.r.Signatures = map[ID][]ID{}
		}
		of := b.inv.id(e.revision)
		rb.r.Signatures[of] = append(rb.r.Signatures[of], e.id)
		b.dateAttached(rb, object, e, needTime)
	case kindReferrer:
		if rb.r.Referrers == nil {
			rb.r.Referrers = map[ID][]ReferrerLink{}
		}
		link := ReferrerLink{Subject: b.inv.id(e.revision), Type: strings.Clone(e.artifact)}
		rb.r.Referrers[e.id] = append(rb.r.Referrers[e.id], link)
		b.dateAttached(rb, object, e, needTime)
	case kindUpload:
		rb.addUpload(object, e)
	case kindStray:
		b.strayIn(rb, object)
		if isStrayLink(e, object.Path) {
			rb.wait(object, e, true, false)
		}
	}
}

// isStrayLink reports whether a stray is a link in a repository, so that what it names is kept.
func isStrayLink(e located, path string) bool {
	return e.repository != "" && strings.HasSuffix(path, "/"+linkFile) && !strings.Contains(path, "/"+uploadsDir+"/")
}

// dateAttached notes whether a link of a signature or a referrer is recent.
func (b *inventoryBuilder) dateAttached(rb *repositoryBuilder, object Object, e located, needTime bool) {
	if needTime {
		rb.wait(object, e, false, true)
	} else {
		b.noteRecent(rb, e, object)
	}
}

func (b *inventoryBuilder) strayIn(rb *repositoryBuilder, object Object) {
	rb.r.Strays++
	b.mu.Lock()
	b.addStray(rb.r.Name, object)
	b.mu.Unlock()
}

// keptObject is a copy of an object that does not keep the page it came in.
func keptObject(o Object) *Object {
	o.Path, o.ETag = strings.Clone(o.Path), strings.Clone(o.ETag)
	return &o
}

// wait puts a link off until more is known of it.
func (rb *repositoryBuilder) wait(object Object, e located, needContent, needTime bool) {
	kept := keptObject(object)
	rb.pending = append(rb.pending, pendingLink{
		object: *kept, entry: located{parsePath(kept.Path), e.id}, needContent: needContent, needTime: needTime,
	})
}

// addRead adds a link whose content counts.
func (b *inventoryBuilder) addRead(rb *repositoryBuilder, object Object, e located, needTime bool) {
	isSettled := object.Content != nil || settles(object, e.digest)
	if needTime || !isSettled {
		rb.wait(object, e, !isSettled, needTime)
		return
	}
	b.addKnown(rb, object, e, isSettled)
}

// addKnown adds a link of which all is known: its content, or that it says what its
// path says; and its time, if that matters.
func (b *inventoryBuilder) addKnown(rb *repositoryBuilder, object Object, e located, isSettled bool) {
	b.noteRecent(rb, e, object)
	own := e.id
	if object.Content != nil && !e.digest.isSaidBy(object.Content) {
		target, ok, detail := readLink(object.Content)
		if !ok {
			rb.damaged(object.Path, detail)
		}
		if target != "" {
			id := b.inv.ID(target)
			switch {
			case id == own:
			case e.kind == kindRevision:
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
	switch e.kind {
	case kindLayer:
		rb.r.Layers = append(rb.r.Layers, newLink(own, isSettled))
	case kindRevision:
		rb.r.Revisions = append(rb.r.Revisions, newLink(own, isSettled))
	}
}

func (rb *repositoryBuilder) damaged(path, detail string) {
	rb.r.Problems = append(rb.r.Problems, Problem{
		Kind: DamagedLink, Repository: rb.r.Name, Path: strings.Clone(path), Effect: KeepsRepository, Detail: detail,
	})
}

func (b *inventoryBuilder) noteRecent(rb *repositoryBuilder, e located, object Object) {
	if !b.isRecent(object) {
		return
	}
	if rb.r.Recent == nil {
		rb.r.Recent = map[ID]bool{}
	}
	rb.r.Recent[e.id] = true
	if e.kind == kindSignature { // of a manifest that is being pushed
		rb.r.Recent[b.inv.id(e.revision)] = true
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

func (rb *repositoryBuilder) addUpload(object Object, e located) {
	u := rb.upload(e.upload)
	if object.Err != nil {
		u.failure = fmt.Errorf("%s: %w", object.Path, object.Err)
	}
	u.Objects = append(u.Objects, Ref{Path: strings.Clone(object.Path), Multipart: object.Multipart})
	u.Bytes += max(object.Size, 0)
	if object.HardLinked {
		u.HardLinkedBytes += object.Size
	}
	if object.ModTime.After(u.Touched) {
		u.Touched = object.ModTime
	}
	if object.Multipart == "" && strings.HasSuffix(object.Path, "/"+e.upload+"/"+startedAt) {
		u.startedat = keptObject(object)
	}
}

// settles reports whether a listed ETag proves that a link says what its path says.
// S3's ETag is the content's MD5 for an object that was put in one piece, in plain
// or under SSE-S3; where it is anything else it can't equal this by accident.
func settles(object Object, own name) bool {
	if object.ETag == "" {
		return false
	}
	if object.Size != int64(len(own.alg)+1+len(own.hex)) || len(object.ETag) != 2*md5.Size {
		return false
	}
	var buffer [len("sha512:") + 128]byte
	content := append(append(append(buffer[:0], own.alg...), ':'), own.hex...)
	sum := md5.Sum(content)
	var etag [2 * md5.Size]byte
	hex.Encode(etag[:], sum[:])
	return object.ETag == string(etag[:])
}

// readLinks learns what the scan did not tell.
func (b *inventoryBuilder) readLinks(ctx context.Context) error {
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
					content, err := b.store.Read(ctx, u.startedat.Path, linkLimit)
					if err = IgnoreDamage(err); err == nil {
						u.startedat.Content = content
					} else if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
						u.failure, err = err, nil // the file fails, and not the storage
					}
					return err
				})
			}
		}
	}
	return g.Wait()
}

func (b *inventoryBuilder) readPending(ctx context.Context, rb *repositoryBuilder, p pendingLink) error {
	if p.needContent {
		content, err := b.store.Read(ctx, p.object.Path, linkLimit)
		if errors.Is(err, fs.ErrNotExist) && p.object.Named { // perhaps only the directory is there
			isThere, statErr := IsThere(ctx, b.store, p.object.Path)
			if statErr != nil {
				return statErr
			}
			if !isThere {
				rb.mu.Lock()
				rb.r.Emptied = append(rb.r.Emptied, strings.TrimSuffix(p.object.Path, "/"+linkFile))
				rb.mu.Unlock()
				return nil
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), IsDamage(err):
			// Nobody deletes from a read-only registry, so a link that was listed and
			// is not found is a storage's doing, and may well be there.
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
		isLost := errors.Is(err, fs.ErrNotExist) || IsDamage(err)
		if isLost && p.object.Named && !p.needContent { // perhaps only the directory is there
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
			// The link was listed or read, and its time is not known. It may be young.
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
	case p.entry.kind == kindStray:
		b.pin(rb, p.object)
	case p.needContent || p.entry.kind == kindRevision:
		b.addKnown(rb, p.object, p.entry, !p.needContent || p.object.Content != nil)
	default:
		b.noteRecent(rb, p.entry, p.object)
	}
	return nil
}

// pin keeps what a link names whose own path is not understood. One below _manifests
// may be what leads a registry to come to a manifest, of whatever digest: then the
// repository is kept.
func (b *inventoryBuilder) pin(rb *repositoryBuilder, object Object) {
	target, _, _ := readLink(object.Content)
	_, isManifest := strings.CutPrefix(object.Path, RepositoryPath(rb.r.Name)+"/"+manifestsDir+"/")
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

// seal makes the repositories out of what was collected.
func (b *inventoryBuilder) seal() {
	inv := b.inv
	var g errgroup.Group // of functions that can't fail
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, rb := range b.repositories {
		inv.Repositories = append(inv.Repositories, rb.r)
		delete(b.repositories, name) // what it was made from is not needed any more
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
			Kind: EmptyDirectory, Path: Root + "/blobs", Effect: Note,
			Detail: "blobs is empty, and repositories name blobs: is its disk mounted?",
		})
	}
}

func (b *inventoryBuilder) sealRepository(rb *repositoryBuilder) {
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
			Kind: NoManifests, Repository: r.Name, Path: RepositoryPath(r.Name), Effect: Note,
			Detail: "it has layers and no manifest: all were deleted, or the first push was cut off",
		})
	}
	if !ValidRepository(r.Name) {
		r.Problems = append(r.Problems, Problem{
			Kind: BadRepositoryName, Repository: r.Name, Path: RepositoryPath(r.Name), Effect: KeepsRepository,
			Detail: "no registry serves a repository of this name: all that it holds is kept",
		})
	}
	slices.SortFunc(r.Problems, CompareProblems)
}

// CompareProblems puts problems in an order that does not depend on when they were met.
func CompareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
}

// sealLinks sorts by ID; of a link that was listed twice one remains.
func sealLinks(links []Link) []Link {
	slices.Sort(links)
	links = slices.CompactFunc(links, func(a, b Link) bool { return a.ID() == b.ID() })
	if cap(links)-len(links) > len(links)/32 {
		links = slices.Clone(links) // without the room to grow
	}
	return links
}

// clocksDiffer is how much later than its last write an upload may say that it began: the
// registry's clock and the storage's differ.
const clocksDiffer = 24 * time.Hour

// sealUpload dates an upload by its startedat, as the registry's own purging does
// (registry/storage/purgeuploads.go), or else by its last write. An
// upload that began in year 1 is none that a registry began, and one that began after its last
// write would never be old.
func (rb *repositoryBuilder) sealUpload(u *uploadBuilder) Upload {
	// What dates the upload goes last: the rest must not look younger after a run that
	// was interrupted.
	date := RepositoryPath(rb.r.Name) + "/" + uploadsDir + "/" + u.ID + "/" + startedAt
	isDate := func(r Ref) int {
		if r.Path == date && r.Multipart == "" {
			return 1
		}
		return 0
	}
	slices.SortFunc(u.Objects, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(isDate(a), isDate(b)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Multipart, b.Multipart))
	})
	if u.failure != nil {
		u.Started = time.Time{} // so that it is kept
		rb.r.Problems = append(rb.r.Problems, Problem{
			Kind: UnreadableUpload, Repository: rb.r.Name, Effect: KeepsNamed,
			Path:   RepositoryPath(rb.r.Name) + "/" + uploadsDir + "/" + u.ID,
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
		Path:   RepositoryPath(rb.r.Name) + "/" + uploadsDir + "/" + u.ID,
		Detail: detail,
	})
	return u.Upload
}
