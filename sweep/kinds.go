package sweep

import (
	"cmp"
	"slices"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// Kind is a kind of thing that a plan removes. It is the name in a plan file. All else that is known
// of a kind is in its row of the table.
type Kind string

// The kinds of removals.
const (
	TagIndexEntry Kind = "tag_index_entry"
	Revision      Kind = "revision"
	OrphanLink    Kind = "orphan_link" // of a signature or a referrer whose manifest was deleted
	Tag           Kind = "tag"         // its current link
	LayerLink     Kind = "layer_link"
	Upload        Kind = "upload"
	Repository    Kind = "repository"
	Blob          Kind = "blob"
)

// EmptyDirectory counts the directories where a repository could be and nothing is. They are
// no lines of a plan: removing them needs no order, and nothing is lost with them.
const EmptyDirectory Kind = "empty_directory"

// Form is what a removal consists of. It decides how a removal is executed and how it is restored.
type Form int

// The forms of removals.
const (
	Links       Form = iota + 1 // link files. A plan has all that is needed to write them again
	Content                     // one file, whose content has the removal's digest
	Files                       // all files below a directory, and the directory
	Directories                 // directories in which there are no files
)

// HasBytes reports whether the storage gets bytes back. Links have no bytes worth a number.
func (f Form) HasBytes() bool { return f == Content || f == Files }

// row is all that is known of a kind of removal.
type row struct {
	kind Kind
	form Form

	noun   string // in texts, for one
	report string // the name of the count in a JSON report
	// shown and reported give the place in the summary and in a JSON report.
	shown, reported int
	// label tells a removal apart from others of its kind and repository. If it is nil, the digest does.
	label func(Removal) string

	// needs are the fields that a line of a plan file has to have: repository, tag, digest, upload.
	needs []string
	// check, if set, says what else is wrong with a line of a plan file.
	check func(Removal) string
	// links are those of a removal, in the order of their removal.
	links func(Removal) []Link
	// isRead is set if a run has read the last link of a removal, unless it was verified.
	isRead bool
	// isServed is set if a registry serves content only by such a link.
	isServed bool
	// isRestoredLast is set if the kind is restored after all others.
	isRestoredLast bool

	// len counts the removals of a plan, and removal writes the i-th one out. It leaves Kind out, and
	// the root of the storage in Path.
	len     func(*Plan) int
	removal func(p *Plan, i int) Removal
	// count counts the removals by repository. It is nil for what belongs to no repository.
	count func(p *Plan, add func(repository, n int))
	// objects and bytes are those of the i-th removal. They are nil for links, which have no bytes, and
	// for directories.
	objects func(p *Plan, i int) []storage.Ref
	bytes   func(p *Plan, i int) int64
	// dirs are the directories of a removal that has nothing else.
	dirs func(Removal) []string
	// isKnown reports whether the last link of the i-th removal is known to say what the removal has
	// as its target, and leads to a blob. If it is nil, that is not known.
	isKnown func(p *Plan, i int) bool
	// leaves is the directory that the i-th removal leaves. It is removed after all kinds.
	leaves func(p *Plan, i int) string

	// find finds the place of what a line of a plan file names. at has its repository already, and id
	// is that of its digest.
	find func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) bool
	// whyNot says why what a plan file names is not in the plan, "" if it is.
	whyNot func(*Plan, place) Reason
}

// table has the kinds in the order of their removal. A link goes before what it leads to, so that
// whatever an interruption leaves behind, no link leads to what has gone.
var table = []row{
	{
		kind: TagIndexEntry, form: Links,
		noun: "tag index entry", report: "tag_index_entries", shown: 6, reported: 4,
		label: func(r Removal) string { return r.Tag + " " + r.Digest.String() },
		needs: []string{"repository", "tag", "digest"},
		links: func(r Removal) []Link {
			return []Link{{layout.TagIndexPath(r.Repository, r.Tag, r.Digest), r.Digest}}
		},
		len:     func(p *Plan) int { return len(p.tagEntries) },
		removal: (*Plan).tagEntryRemoval,
		count: func(p *Plan, add func(repository, n int)) {
			for _, entry := range p.tagEntries {
				add(entry.repository, 1)
			}
		},
		isKnown: (*Plan).isTagEntryKnown,
		find: func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) (found bool) {
			tags := inv.Repositories[at.repository].Tags
			if at.tag, found = findTag(tags, line.Tag); found {
				at.at, found = inventory.FindLink(tags[at.tag].Index, id)
			}
			return found
		},
		whyNot: (*Plan).whyNotEntry,
	},
	{
		kind: Revision, form: Links,
		noun: "manifest revision", report: "revisions", shown: 3, reported: 2,
		needs: []string{"repository", "digest"},
		// While the revision's link is there, a next run finds its signatures and referrers.
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
	{
		// A tag's current link goes after its index and its revision.
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
		leaves: func(p *Plan, i int) string {
			r, tag := p.tag(i)
			return dirOf(dirOf(layout.TagPath(r.Name, tag.Name)))
		},
		find: func(inv *inventory.Inventory, line Removal, id inventory.ID, at *place) (found bool) {
			tags := inv.Repositories[at.repository].Tags
			at.at, found = findTag(tags, line.Tag)
			return found && tags[at.at].HasTarget && tags[at.at].Target == id // what was reviewed
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
		needs:   []string{"upload"}, // and a repository, but for one of none
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
			if _, goes := slices.BinarySearch(p.repositories, at.repository); goes {
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

// counted is the row of what is counted and is no line of a plan.
var counted = row{
	kind: EmptyDirectory, form: Directories,
	noun: "empty directory", report: "empty_directories", shown: 9, reported: 9,
}

// Kinds are all kinds in the order of their removal.
var Kinds = kindsOf(table)

// Restored are the kinds that can be restored, in the order of that. It is the order of removal
// backwards: what a link leads to is back before it is, so that a registry that runs meanwhile never
// serves half of an image.
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

// Shown are the kinds in the order of a summary, with those that are only counted.
func Shown() []Kind { return inOrder(func(r row) int { return r.shown }) }

// Reported are the kinds in the order of a JSON report, with those that are only counted.
func Reported() []Kind { return inOrder(func(r row) int { return r.reported }) }

func inOrder(place func(row) int) []Kind {
	rows := append(slices.Clone(table), counted)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(place(a), place(b)) })
	return kindsOf(rows)
}

func kindsOf(rows []row) []Kind {
	kinds := make([]Kind, len(rows))
	for i, r := range rows {
		kinds[i] = r.kind
	}
	return kinds
}

// row is the one of a kind. It is empty for a kind that is none.
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

// Form is what removals of a kind consist of, 0 for a kind that is none.
func (k Kind) Form() Form { return k.row().form }

// Noun names one removal of a kind in a text.
func (k Kind) Noun() string { return k.row().noun }

// ReportName is the name of a kind's count in a JSON report.
func (k Kind) ReportName() string { return k.row().report }

// IsServed reports whether a registry serves content only by such a link.
func (k Kind) IsServed() bool { return k.row().isServed }

// IsRead reports whether a run has read the last link of a removal of the kind, unless the link was
// verified.
func (k Kind) IsRead() bool { return k.row().isRead }

// Label tells a removal apart from others of its kind and repository.
func (r Removal) Label() string {
	if label := r.Kind.row().label; label != nil {
		return label(r)
	}
	return r.Digest.String()
}

// needsField reports whether a line of a plan file has to have a field.
func (r *row) needsField(name string) bool { return slices.Contains(r.needs, name) }
