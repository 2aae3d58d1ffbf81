package sweep

import (
	"cmp"
	"slices"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// Kind is a kind of removal. Its value is the name in a plan file. The table has the properties of
// each kind.
type Kind string

// The kinds of removals.
const (
	TagIndexEntry Kind = "tag_index_entry"
	Revision      Kind = "revision"
	OrphanLink    Kind = "orphan_link" // link to a signature or a referrer of a deleted manifest
	// EarlierEntry is an index entry for a manifest that a tag which a policy removes does not point at any
	// more. After an interruption it shows that the manifest goes with the tag.
	EarlierEntry Kind = "earlier_entry"
	Tag          Kind = "tag" // current link of a tag
	LayerLink    Kind = "layer_link"
	Upload       Kind = "upload"
	Repository   Kind = "repository"
	Blob         Kind = "blob"
)

// EmptyDirectory is the kind of an empty directory at a path that a repository could have. Empty
// directories are counted, but have no lines in a plan: they need no order and hold no data.
const EmptyDirectory Kind = "empty_directory"

// Form is the form of the objects of a removal. Execute and a restore depend on it.
type Form int

// The forms of removals.
const (
	Links       Form = iota + 1 // link files, which can be written again from the plan alone
	Content                     // one file, whose content has the removal's digest
	Files                       // a directory with all files below it
	Directories                 // directories without files
)

// HasBytes reports whether a removal frees bytes. The bytes of links are not counted.
func (f Form) HasBytes() bool { return f == Content || f == Files }

// row has the properties of a kind of removal.
type row struct {
	kind Kind
	form Form

	noun   string // one removal of the kind, in messages
	report string // name of the count in a JSON report
	// shown and reported are the positions in the summary and in a JSON report, from 1 on.
	shown, reported int
	// label identifies a removal among those of its kind and repository. If nil, the digest does.
	label func(Removal) string

	// needs has the required fields of a line in a plan file: repository, tag, digest, upload.
	needs []string
	// check, if set, returns the problem of a line in a plan file beyond missing fields, "" if none.
	check func(Removal) string
	// links returns the links of a removal, in the order of their removal.
	links func(Removal) []Link
	// isRead is true if each run reads the last link of a removal, or has verified it.
	isRead bool
	// isServed is true if a registry serves content only if it has a link of this kind.
	isServed bool
	// isRestoredLast is true if the kind is restored after all others.
	isRestoredLast bool

	// len returns the number of removals in a plan. removal returns the i-th one, without Kind and
	// with a Path below the root of the layout.
	len     func(*Plan) int
	removal func(p *Plan, i int) Removal
	// count calls add with the number of removals of each repository. It is nil for blobs and
	// for repositories.
	count func(p *Plan, add func(repository, n int))
	// objects and bytes return the objects of the i-th removal and their size. They are nil for
	// the forms Links and Directories.
	objects func(p *Plan, i int) []storage.Ref
	bytes   func(p *Plan, i int) int64
	// dirs returns the directories of a removal of the form Directories.
	dirs func(Removal) []string
	// isKnown reports whether the last link of the i-th removal is known to contain its digest
	// (or target), and whether that blob is stored. If nil, neither is known.
	isKnown func(p *Plan, i int) bool
	// emptiedDir returns a directory that the i-th removal makes empty. It is removed after all kinds.
	emptiedDir func(p *Plan, i int) string

	// find sets the position of a line's object in the inventory. The caller has set at.repository.
	// id is the ID of the line's digest.
	find func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) bool
	// whyNot returns why an object is not in the plan, "" if it is.
	whyNot func(*Plan, place) Reason
}

// table has the kinds in the order of their removal. A link is removed before its target. So after
// an interruption no link points to a removed object.
var table = []row{
	entryRow(row{kind: TagIndexEntry, noun: "tag index entry", report: "tag_index_entries", shown: 6, reported: 4},
		func(p *Plan) []tagEntry { return p.tagEntries }),
	{
		kind: Revision, form: Links,
		noun: "manifest revision", report: "revisions", shown: 3, reported: 2,
		needs: []string{"repository", "digest"},
		// The revision's link is last: the next run needs it to find the rest of these links.
		links: func(r Removal) []Link {
			return append(attachedLinks(r), Link{layout.RevisionPath(r.Repository, r.Digest), r.Digest})
		},
		isRead: true, isServed: true,
		len:     func(p *Plan) int { return p.revisions.len() },
		removal: (*Plan).revisionRemoval,
		count:   func(p *Plan, add func(repository, n int)) { p.revisions.count(add) },
		isKnown: func(p *Plan, i int) bool {
			link := p.revisions.get(i)
			return p.inv.Stored(p.inv.Repositories[link.repository].Revisions[link.at].ID())
		},
		find: func(inv *inventory.Inventory, _ Removal, id inventory.ID, at *place) (found bool) {
			at.at, found = inventory.FindLink(inv.Repositories[at.repository].Revisions, id)
			return found
		},
		whyNot: (*Plan).whyNotRevision,
	},
	{
		kind: OrphanLink, form: Links,
		noun: "orphaned link", report: "orphan_links", shown: 4, reported: 5,
		needs: []string{"repository", "digest"},
		check: func(r Removal) string {
			if len(r.SignatureDigests)+len(r.Referrers) != 1 {
				return "it has to have one of signature_digests or one of referrers, as a line of its kind does"
			}
			return ""
		},
		links:   attachedLinks,
		len:     func(p *Plan) int { return len(p.orphans) },
		removal: (*Plan).orphanRemoval,
		count: func(p *Plan, add func(repository, n int)) {
			for _, o := range p.orphans {
				add(o.repository, 1)
			}
		},
		find: func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) bool {
			path := attachedLinks(line)[0].Path
			for _, o := range orphansOf(inv, at.repository, id) {
				if o.path(inv) == path {
					at.orphan = &o
					return true
				}
			}
			return false
		},
		whyNot: func(p *Plan, at place) Reason { return p.whyNotOrphan(*at.orphan) },
	},
	entryRow(row{kind: EarlierEntry, noun: "earlier tag index entry", report: "earlier_entries", shown: 10, reported: 10},
		func(p *Plan) []tagEntry { return p.earlierEntries }),
	{
		// A tag's current link is removed after its index entries and its revision.
		kind: Tag, form: Links,
		noun: "tag", report: "tags", shown: 2, reported: 6,
		needs: []string{"repository", "tag", "digest"},
		links: func(r Removal) []Link {
			return []Link{{layout.TagPath(r.Repository, r.Tag), r.Digest}}
		},
		isRead: true, isRestoredLast: true,
		len:     func(p *Plan) int { return len(p.tags) },
		removal: (*Plan).tagRemoval,
		count: func(p *Plan, add func(repository, n int)) {
			for _, tag := range p.tags {
				add(tag.repository, 1)
			}
		},
		isKnown: func(p *Plan, i int) bool {
			_, tag := p.tag(i)
			return p.inv.Stored(tag.Target)
		},
		emptiedDir: func(p *Plan, i int) string {
			r, tag := p.tag(i)
			return dirOf(dirOf(layout.TagPath(r.Name, tag.Name)))
		},
		find: func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) (found bool) {
			r := inv.Repositories[at.repository]
			at.at, found = r.FindTag(line.Tag)
			return found && r.Tags[at.at].HasTarget && r.Tags[at.at].Target == id // unchanged since the review
		},
		whyNot: (*Plan).whyNotTag,
	},
	{
		kind: LayerLink, form: Links,
		noun: "layer link", report: "layer_links", shown: 5, reported: 3,
		needs: []string{"repository", "digest"},
		links: func(r Removal) []Link {
			return []Link{{layout.LayerPath(r.Repository, r.Digest), cmp.Or(r.Target, r.Digest)}}
		},
		isRead: true, isServed: true,
		len:     func(p *Plan) int { return p.layers.len() },
		removal: (*Plan).layerRemoval,
		count:   func(p *Plan, add func(repository, n int)) { p.layers.count(add) },
		isKnown: (*Plan).isLayerKnown,
		find: func(inv *inventory.Inventory, _ Removal, id inventory.ID, at *place) (found bool) {
			at.at, found = inventory.FindLink(inv.Repositories[at.repository].Layers, id)
			return found
		},
		whyNot: func(p *Plan, at place) Reason {
			return causes[p.live.Repositories[at.repository].Layers.At(at.at)]
		},
	},
	{
		kind: Upload, form: Files,
		noun: "unfinished upload", report: "uploads", shown: 7, reported: 7,
		label:   func(r Removal) string { return r.Upload },
		needs:   []string{"upload"}, // the upload may be outside of all repositories
		len:     func(p *Plan) int { return len(p.uploads) },
		removal: (*Plan).uploadRemoval,
		count: func(p *Plan, add func(repository, n int)) {
			for _, u := range p.uploads {
				if u.repository >= 0 {
					add(u.repository, 1)
				}
			}
		},
		objects: func(p *Plan, i int) []storage.Ref {
			u, _ := p.upload(i)
			return u.Objects
		},
		bytes: func(p *Plan, i int) int64 {
			u, _ := p.upload(i)
			return u.Bytes
		},
		find: func(inv *inventory.Inventory, line Removal, _ inventory.ID, at *place) (found bool) {
			at.at, found = findUpload(inv, at.repository, line.Upload)
			return found
		},
		whyNot: func(p *Plan, at place) Reason { return p.keepsUpload(upload{at.repository, at.at}) },
	},
	{
		kind: Repository, form: Directories,
		noun: "empty repository", report: "repositories", shown: 8, reported: 8,
		label:   func(r Removal) string { return r.Repository },
		needs:   []string{"repository"},
		len:     func(p *Plan) int { return len(p.repositories) },
		removal: (*Plan).repositoryRemoval,
		dirs:    func(r Removal) []string { return layout.LayoutPaths(r.Repository) },
		find:    func(*inventory.Inventory, Removal, inventory.ID, *place) bool { return true },
		whyNot: func(p *Plan, at place) Reason {
			if _, found := slices.BinarySearch(p.repositories, at.repository); found {
				return ""
			}
			return LeftNotEmpty
		},
	},
	{
		kind: Blob, form: Content,
		noun: "blob", report: "blobs", shown: 1, reported: 1,
		needs:   []string{"digest"},
		len:     func(p *Plan) int { return len(p.blobs) },
		removal: (*Plan).blobRemoval,
		objects: func(p *Plan, i int) []storage.Ref {
			return []storage.Ref{{Path: layout.BlobPath(p.inv.Digest(p.blobs[i]))}}
		},
		bytes: (*Plan).blobBytes,
		find: func(inv *inventory.Inventory, _ Removal, id inventory.ID, at *place) bool {
			at.at = int(id)
			return inv.Stored(id)
		},
		whyNot: func(p *Plan, at place) Reason { return p.whyNotBlob(inventory.ID(at.at)) },
	},
}

// entryRow completes the row of a kind of index entries.
func entryRow(r row, of func(*Plan) []tagEntry) row {
	r.form = Links
	r.label = func(r Removal) string { return r.Tag + " " + r.Digest.String() }
	r.needs = []string{"repository", "tag", "digest"}
	r.links = func(r Removal) []Link {
		return []Link{{layout.TagIndexPath(r.Repository, r.Tag, r.Digest), r.Digest}}
	}
	r.len = func(p *Plan) int { return len(of(p)) }
	r.removal = func(p *Plan, i int) Removal { return p.entryRemoval(of(p)[i]) }
	r.count = func(p *Plan, add func(repository, n int)) {
		for _, entry := range of(p) {
			add(entry.repository, 1)
		}
	}
	r.isKnown = func(p *Plan, i int) bool { return p.isEntryKnown(of(p)[i]) }
	r.find = func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) (found bool) {
		r := inv.Repositories[at.repository]
		if at.tag, found = r.FindTag(line.Tag); found {
			at.at, found = inventory.FindLink(r.Tags[at.tag].Index, id)
		}
		return found
	}
	r.whyNot = (*Plan).whyNotEntry
	return r
}

// isEntry reports whether a removal of the kind is an index entry, which is a part of its tag.
func (k Kind) isEntry() bool { return k == TagIndexEntry || k == EarlierEntry }

// counted is the row of empty directories, which have no lines in a plan.
var counted = row{
	kind: EmptyDirectory, form: Directories,
	noun: "empty directory", report: "empty_directories", shown: 9, reported: 9,
}

// Kinds has all kinds in the order of their removal.
var Kinds = kindsOf(table)

// Restored returns the kinds that can be restored, in the order of the restore. It is the reverse of
// the order of removal. The target of a link is restored before the link, so that a registry that
// runs meanwhile never serves half of an image.
func Restored() []Kind {
	var kinds, last []Kind
	for _, r := range slices.Backward(table) {
		switch {
		case r.form == Directories:
		case r.isRestoredLast:
			last = append(last, r.kind)
		default:
			kinds = append(kinds, r.kind)
		}
	}
	return append(kinds, last...)
}

// Shown returns the kinds in the order of the summary, with EmptyDirectory.
func Shown() []Kind { return inOrder(func(r row) int { return r.shown }) }

// Reported returns the kinds in the order of the JSON report, with EmptyDirectory.
func Reported() []Kind { return inOrder(func(r row) int { return r.reported }) }

func inOrder(position func(row) int) []Kind {
	rows := append(slices.Clone(table), counted)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(position(a), position(b)) })
	return kindsOf(rows)
}

func kindsOf(rows []row) []Kind {
	kinds := make([]Kind, len(rows))
	for i, r := range rows {
		kinds[i] = r.kind
	}
	return kinds
}

// row returns the row of a kind, an empty one for an unknown kind.
func (k Kind) row() *row {
	for i := range table {
		if table[i].kind == k {
			return &table[i]
		}
	}
	if k == EmptyDirectory {
		return &counted
	}
	return &row{}
}

// Form returns the form of the removals of a kind, 0 for an unknown kind.
func (k Kind) Form() Form { return k.row().form }

// Noun returns the name of one removal of the kind, for messages.
func (k Kind) Noun() string { return k.row().noun }

// ReportName returns the name of the kind's count in a JSON report.
func (k Kind) ReportName() string { return k.row().report }

// IsServed reports whether a registry serves content only if it has a link of this kind.
func (k Kind) IsServed() bool { return k.row().isServed }

// IsRead reports whether each run reads the last link of a removal of this kind, or has verified it.
func (k Kind) IsRead() bool { return k.row().isRead }

// Label identifies a removal among those of its kind and repository.
func (r Removal) Label() string {
	if label := r.Kind.row().label; label != nil {
		return label(r)
	}
	return r.Digest.String()
}

// needsField reports whether the field is required in a plan file.
func (r *row) needsField(name string) bool { return slices.Contains(r.needs, name) }
