package sweep

import (
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// Reasons for which a line of a plan file stays, beside those of Kept.
const (
	LeftTagged   Reason = "tagged"    // a tag reaches it, or what is attached to it does
	LeftGone     Reason = "gone"      // it is not there any more
	LeftNotEmpty Reason = "not_empty" // of a repository: something stays in it
)

// LeftOut visits the removals in the file that the plan, which was made for what the file
// selects, does not have, in the order of the file and as they stand there.
func (p *Plan) LeftOut(file *File, visit func(removal Removal, reason Reason)) error {
	return file.Each(func(removal Removal) error {
		if reason := p.whyNot(removal); reason != "" {
			visit(removal, reason)
		}
		return nil
	})
}

// causes say why something stays that the mark has found alive. What is selected is
// untagged only because an untagged manifest that is not selected reaches it.
var causes = map[mark.Cause]Reason{
	mark.Tagged: LeftTagged, mark.Recent: KeptAge, mark.Untagged: KeptUntagged, mark.Unlinked: KeptUnlinked, mark.Damage: KeptDamage, mark.Absent: LeftGone,
}

// whyNot says why a selected removal is not in the plan, "" if it is.
func (p *Plan) whyNot(removal Removal) Reason {
	at, found := find(p.inv, removal)
	if !found {
		return LeftGone
	}
	return removal.Kind.row().whyNot(p, at)
}

func (p *Plan) whyNotEntry(at place) Reason {
	r, live := p.inv.Repositories[at.repository], p.live.Repositories[at.repository]
	id := r.Tags[at.tag].Index[at.at].ID()
	if _, goes := slices.BinarySearchFunc(p.tagEntries, tagEntry{at.repository, at.tag, id}, p.compareEntries); goes {
		return ""
	}
	if revision, found := inventory.FindLink(r.Revisions, id); found && live.Revisions.At(revision) != mark.Dead {
		return causes[live.Revisions.At(revision)]
	}
	switch {
	case !live.Unlinked(id):
		return LeftGone // of the entry only a directory is left
	case live.Kept:
		return KeptDamage
	}
	return LeftTagged
}

func (p *Plan) whyNotRevision(at place) Reason {
	cause := p.live.Repositories[at.repository].Revisions.At(at.at)
	if cause == mark.Untagged && p.Options.Only.pins(at.repository, at.at) {
		return KeptLinked
	}
	return causes[cause]
}

func (p *Plan) whyNotTag(at place) Reason {
	live := p.live.Repositories[at.repository]
	switch _, goes := slices.BinarySearch(live.DeadTags, at.at); {
	case goes:
		return ""
	case live.Kept:
		return KeptDamage
	case !p.Options.Only.tagMayGo(at.repository, at.at):
		return KeptLinked
	}
	r := p.inv.Repositories[at.repository]
	if revision, found := inventory.FindLink(r.Revisions, r.Tags[at.at].Target); found {
		return causes[live.Revisions.At(revision)]
	}
	return LeftTagged
}

func (p *Plan) whyNotOrphan(o orphan) Reason {
	live := p.live.Repositories[o.repository]
	switch {
	case slices.Contains(p.orphans, o):
		return ""
	case slices.Contains(live.Orphans, o.of):
		return LeftGone // of the link only a directory is left
	case live.Kept:
		return KeptDamage
	}
	return LeftTagged // or it has a revision link again
}

func (p *Plan) whyNotBlob(id inventory.ID) Reason {
	if cause := p.live.Blob(id); cause != mark.Dead {
		return causes[cause]
	}
	switch _, goes := slices.BinarySearch(p.blobs, id); {
	case goes:
		return ""
	case p.young.has(int(id)):
		return KeptAge
	case p.linked.has(int(id)):
		return KeptLinked
	}
	return LeftGone // of the blob only a directory is left
}
