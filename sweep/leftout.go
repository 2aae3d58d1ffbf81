package sweep

import (
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// Reasons why a line of a plan file is not executed, in addition to those of Kept.
const (
	LeftTagged   Reason = "tagged"    // a tag reaches it, or reaches a referrer of it
	LeftGone     Reason = "gone"      // it does not exist any more, or a tag was pushed again
	LeftNotEmpty Reason = "not_empty" // a repository that will not be empty
)

// LeftOut visits the removals of a plan file that the plan does not have, in the order of the file.
// The plan must have been made with the file's Selection. The visited removals have the reasons and
// sizes of the file.
func (p *Plan) LeftOut(file *File, visit func(removal Removal, reason Reason)) error {
	return file.Each(func(removal Removal) error {
		if reason := p.whyNot(removal); reason != "" {
			visit(removal, reason)
		}
		return nil
	})
}

// causes has the reason for each cause of the mark. An object of a selection has the cause
// mark.Untagged only if an untagged manifest outside of the selection reaches it.
var causes = map[mark.Cause]Reason{
	mark.Tagged: LeftTagged, mark.Recent: KeptAge, mark.Untagged: KeptUntagged, mark.UnlinkedChild: KeptUnlinkedChild, mark.Damage: KeptDamage, mark.Absent: LeftGone,
}

// whyNot returns why a selected removal is not in the plan, "" if it is.
func (p *Plan) whyNot(removal Removal) Reason {
	at, found := find(p.inv, removal)
	if !found || isPushedAgain(p.inv, removal, at) {
		return LeftGone
	}
	return removal.Kind.row().whyNot(p, at)
}

func (p *Plan) whyNotEntry(at place) Reason {
	r, live := p.inv.Repositories[at.repository], p.live.Repositories[at.repository]
	id := r.Tags[at.tag].Index[at.at].ID()
	for _, entries := range [][]tagEntry{p.tagEntries, p.earlierEntries} {
		if _, found := slices.BinarySearchFunc(entries, tagEntry{at.repository, at.tag, id}, p.compareEntries); found {
			return ""
		}
	}
	if revision, found := inventory.FindLink(r.Revisions, id); found && live.Revisions.At(revision) != mark.Dead {
		return causes[live.Revisions.At(revision)]
	}
	switch {
	case !live.IsAliveEntry(id):
		return LeftGone // only the directory of the entry exists
	case live.Kept:
		return KeptDamage
	}
	return LeftTagged
}

func (p *Plan) whyNotRevision(at place) Reason {
	cause := p.live.Repositories[at.repository].Revisions.At(at.at)
	if cause == mark.Untagged && p.Options.Only.isPinned(at.repository, at.at) {
		return KeptLinked
	}
	return causes[cause]
}

func (p *Plan) whyNotTag(at place) Reason {
	live := p.live.Repositories[at.repository]
	switch _, found := slices.BinarySearch(live.DeadTags, at.at); {
	case found:
		return ""
	case live.Kept:
		return KeptDamage
	case !p.Options.Only.mayRemoveTag(at.repository, at.at):
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
		return LeftGone // only the directory of the link exists
	case live.Kept:
		return KeptDamage
	}
	return LeftTagged // or it has a revision link again
}

func (p *Plan) whyNotBlob(id inventory.ID) Reason {
	if cause := p.live.Blob(id); cause != mark.Dead {
		return causes[cause]
	}
	switch _, found := slices.BinarySearch(p.blobs, id); {
	case found:
		return ""
	case p.young.has(int(id)):
		return KeptAge
	case p.linked.has(int(id)):
		return KeptLinked
	case p.leftBlobs.has(int(id)):
		return KeptLimit
	}
	return LeftGone // only the directory of the blob exists
}
