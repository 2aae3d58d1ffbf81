package filesystem

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// Only a regular file with exactly the digest of its directory is a verified link.
func TestVerifyLinks(t *testing.T) {
	tree := storagetest.NewTree(t)
	dir := layout.RepositoryPath("app") + "/" + layout.LayersDir + "/sha256"
	var sums [][32]byte
	// next adds a digest. It returns its hex digits and the path of its link.
	next := func() (hex, link string) {
		sum := [32]byte{31: byte(len(sums))}
		sums = append(sums, sum)
		hex = layout.HexSHA256(sum)
		return hex, dir + "/" + hex + "/" + layout.LinkFile
	}
	first, link := next()
	tree.Write(link, "sha256:"+first)
	hex, link := next()
	tree.Write(link, "sha256:"+hex+"\n")
	hex, link = next()
	tree.Write(link, "sha256:"+hex[1:])
	hex, link = next()
	tree.Write(link, "sha512:"+hex)
	hex, link = next()
	tree.Write(link, hex)
	_, link = next()
	tree.Write(link, "sha256:"+first)
	_, link = next()
	tree.Write(link, "")
	_, link = next()
	tree.Write(link, "sha256:"+strings.Repeat("0", 20<<10))
	_, link = next()
	tree.Mkdir(link)
	next() // there is nothing
	hex, link = next()
	tree.Mkdir(filepath.Dir(link))
	tree.Write("elsewhere", "sha256:"+hex)
	if err := os.Symlink(tree.Path("elsewhere"), tree.Path(link)); err != nil {
		t.Fatal(err)
	}
	hex, link = next()
	tree.Write("other/"+layout.LinkFile, "sha256:"+hex)
	if err := os.Symlink(tree.Path("other"), tree.Path(filepath.Dir(link))); err != nil {
		t.Fatal(err)
	}
	_, link = next()
	tree.Mkdir(filepath.Dir(link))
	if err := unix.Mkfifo(tree.Path(link), 0o600); err != nil {
		t.Fatal(err)
	}

	verifier := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})).(storage.LinkVerifier)
	for i, verified := range verifier.VerifyLinks(t.Context(), dir, sums) {
		if verified != (i == 0) {
			t.Errorf("link %d: verified is %t", i, verified)
		}
	}
	for i, verified := range verifier.VerifyLinks(t.Context(), dir+"/missing", sums) {
		if verified {
			t.Errorf("link %d was verified in a directory that does not exist", i)
		}
	}
}
