package inventory

import (
	"errors"
	"fmt"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// maxNamedStrays is how many strays are reported by name. All of them are counted.
const maxNamedStrays = 1000

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

// isStrayLink reports whether a stray is a link in a repository. The digest in it is then kept.
func isStrayLink(e located, path string) bool {
	return e.Repository != "" && strings.HasSuffix(path, "/"+layout.LinkFile) && !strings.Contains(path, "/"+layout.UploadsDir+"/")
}

func (b *builder) strayIn(rb *repositoryBuilder, object storage.Object) {
	rb.r.Strays++
	b.mu.Lock()
	b.addStray(rb.r.Name, object)
	b.mu.Unlock()
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
