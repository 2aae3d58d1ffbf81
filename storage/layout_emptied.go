package storage

import "strings"

// emptied tells which empty directories are what a removal leaves that was cut off between
// a file and the directories around it, so that the next run can end where this one would
// have. Those that have the digest of a blob, a link or a revision for a name are not among
// them: a scan takes such a directory for what it is named after, and a look at that tells
// that it is empty.
//
// isName is set for a directory that could be a repository, or in which repositories lay.
func emptied(dir string) (isName, ok bool) {
	top, rest, _ := strings.Cut(dir, "/")
	switch top {
	case BlobsDir: // blobs/<alg>/<first 2>
		alg, first, _ := strings.Cut(rest, "/")
		return false, isAlgorithm(alg) && len(first) == 2 && isHex(first)
	case RepositoriesDir:
	default:
		return false, false
	}
	_, part, below, ok := splitRepository(rest)
	if !ok {
		return true, ValidRepository(rest)
	}
	names := strings.Split(below, "/")
	switch part {
	case layersDir: // <alg>
		ok = len(names) == 1 && isAlgorithm(names[0])
	case uploadsDir: // <uuid>, and any below
		ok = below != ""
	case refsDir: // subjects, and any below
		ok = names[0] == "subjects"
	case manifestsDir:
		switch names[0] {
		case "revisions": // <alg>, <alg>/<hex>/signatures, <alg>/<hex>/signatures/<alg>, <alg>/<hex>/_referrers and any below
			ok = len(names) == 2 && isAlgorithm(names[1]) ||
				len(names) >= 4 && (name{names[1], names[2]}).valid() &&
					(names[3] == signaturesDir && (len(names) == 4 || len(names) == 5 && isAlgorithm(names[4])) ||
						names[3] == referrersDir)
		case "tags": // <tag>, with empty directories in it or none, and <tag>/index/<alg>
			ok = len(names) == 2 && nameable(names[1]) || len(names) == 4 && names[2] == "index" && isAlgorithm(names[3])
		default:
			ok = false
		}
	}
	return false, ok
}
