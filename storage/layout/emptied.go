package layout

import (
	"strings"

	"regsweep/storage"
)

// Emptied tells which empty directories are what a removal leaves that was cut off between
// a file and the directories around it, so that the next run can end where this one would
// have. Those that have the digest of a blob, a link or a revision for a name are not among
// them: a scan takes such a directory for what it is named after, and a look at that tells
// that it is empty.
//
// isName is set for a directory that could be a repository, or in which repositories lay.
func Emptied(dir string) (isName, ok bool) {
	top, rest, _ := strings.Cut(dir, "/")
	switch top {
	case storage.BlobsDir: // blobs/<alg>/<first 2>
		alg, first, _ := strings.Cut(rest, "/")
		return false, IsAlgorithm(alg) && len(first) == 2 && IsHex(first)
	case storage.RepositoriesDir:
	default:
		return false, false
	}
	_, part, below, ok := SplitRepository(rest)
	if !ok {
		return true, ValidRepository(rest)
	}
	names := strings.Split(below, "/")
	switch part {
	case LayersDir: // <alg>
		ok = len(names) == 1 && IsAlgorithm(names[0])
	case UploadsDir: // <uuid>, and any below
		ok = below != ""
	case refsDir: // subjects, and any below
		ok = names[0] == "subjects"
	case ManifestsDir:
		switch names[0] {
		case "revisions": // <alg>, <alg>/<hex>/signatures, <alg>/<hex>/signatures/<alg>, <alg>/<hex>/_referrers and any below
			ok = len(names) == 2 && IsAlgorithm(names[1]) ||
				len(names) >= 4 && (Name{names[1], names[2]}).Valid() &&
					(names[3] == SignaturesDir && (len(names) == 4 || len(names) == 5 && IsAlgorithm(names[4])) ||
						names[3] == referrersDir)
		case "tags": // <tag>, with empty directories in it or none, and <tag>/index/<alg>
			ok = len(names) == 2 && IsNameable(names[1]) || len(names) == 4 && names[2] == "index" && IsAlgorithm(names[3])
		default:
			ok = false
		}
	}
	return false, ok
}
