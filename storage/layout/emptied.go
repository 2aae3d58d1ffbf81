package layout

import (
	"strings"

	"regsweep/storage"
)

// Emptied reports whether an empty directory may have been left by an interrupted removal. A
// removal that is interrupted after the file leaves the directories around it, and the next run
// removes them. A deletion through the registry's API leaves the directory of a revision. ok is false
// for a directory whose name is the digest of a blob or of another link: a scan reports it as that
// object, and a stat of the object shows that it is absent.
//
// isName is set if the directory could be a repository or a parent of repositories.
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
	case UploadsDir: // <uuid>, and any directory below
		ok = below != ""
	case refsDir: // subjects, and any directory below
		ok = names[0] == "subjects"
	case ManifestsDir:
		switch names[0] {
		case "revisions": // <alg>, <alg>/<hex>, <alg>/<hex>/signatures, <alg>/<hex>/signatures/<alg>, <alg>/<hex>/_referrers and any directory below
			ok = len(names) == 2 && IsAlgorithm(names[1]) ||
				len(names) >= 3 && (Name{names[1], names[2]}).Valid() &&
					(len(names) == 3 || names[3] == referrersDir ||
						names[3] == SignaturesDir && (len(names) == 4 || len(names) == 5 && IsAlgorithm(names[4])))
		case "tags": // <tag>, if it has no files, and <tag>/index/<alg>
			ok = len(names) == 2 && IsNameable(names[1]) || len(names) == 4 && names[2] == "index" && IsAlgorithm(names[3])
		default:
			ok = false
		}
	}
	return false, ok
}
