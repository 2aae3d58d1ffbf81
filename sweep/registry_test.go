package sweep_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/filesystem"
)

// disk is a registry's storage as files and nothing else: what the oracle judges,
// and what is written out for the code under test. Paths are below the layout's
// root. A directory is only listed if it is empty.
type disk struct {
	files map[string]file
	dirs  map[string]bool
}

type file struct {
	content string
	age     time.Duration // since it was written
}

func newDisk() *disk { return &disk{files: map[string]file{}, dirs: map[string]bool{}} }

// old is the age of what nobody has touched for long.
const old = 60 * 24 * time.Hour

func (d *disk) write(path, content string) { d.files[path] = file{content, old} }

// The paths and digests of the layout, once more and by hand: what is tested here
// should not stand on the code that it tests.

func sha256Of(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sha512Of(content string) string {
	sum := sha512.Sum512([]byte(content))
	return "sha512:" + hex.EncodeToString(sum[:])
}

func slashed(digest string) string { return strings.Replace(digest, ":", "/", 1) }

func blobFile(digest string) string {
	alg, hex, _ := strings.Cut(digest, ":")
	return "blobs/" + alg + "/" + hex[:2] + "/" + hex + "/data"
}

func layerFile(repository, digest string) string {
	return "repositories/" + repository + "/_layers/" + slashed(digest) + "/link"
}

func revisionFile(repository, digest string) string {
	return "repositories/" + repository + "/_manifests/revisions/" + slashed(digest) + "/link"
}

func signatureFile(repository, revision, digest string) string {
	return "repositories/" + repository + "/_manifests/revisions/" + slashed(revision) + "/signatures/" + slashed(digest) + "/link"
}

func tagFile(repository, tag string) string {
	return "repositories/" + repository + "/_manifests/tags/" + tag + "/current/link"
}

func indexFile(repository, tag, digest string) string {
	return "repositories/" + repository + "/_manifests/tags/" + tag + "/index/" + slashed(digest) + "/link"
}

// blob stores content and returns its digest.
func (d *disk) blob(content string) string {
	digest := sha256Of(content)
	d.write(blobFile(digest), content)
	return digest
}

func (d *disk) layer(repository, digest string)    { d.write(layerFile(repository, digest), digest) }
func (d *disk) revision(repository, digest string) { d.write(revisionFile(repository, digest), digest) }

// tag points a tag at a manifest, which stays in the tag's index.
func (d *disk) tag(repository, tag, digest string) {
	d.write(indexFile(repository, tag, digest), digest)
	d.write(tagFile(repository, tag), digest)
}

func (d *disk) upload(repository, id string, age time.Duration, data string) {
	dir := "repositories/" + repository + "/_uploads/" + id
	for path, content := range map[string]string{
		"data": data, "startedat": now.Add(-age).Format(time.RFC3339), "hashstates/sha256/0": "",
	} {
		d.files[dir+"/"+path] = file{content, age}
	}
}

// json1 writes a manifest.
func json1(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and strings always encode
	}
	return string(encoded)
}

func descriptor(mediaType, digest string, size int) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": size}
}

// now is the time of every run here.
var now = time.Now().Truncate(time.Second)

// put writes the disk out below a new root directory and returns the root.
func (d *disk) put(t testing.TB) string {
	t.Helper()
	root := inMemory(t)
	made := map[string]bool{}
	mkdir := func(dir string) {
		if !made[dir] {
			made[dir] = true
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	mkdir(filepath.Join(root, storage.Root))
	for path, f := range d.files {
		path = filepath.Join(root, storage.Root, filepath.FromSlash(path))
		mkdir(filepath.Dir(path))
		if err := os.WriteFile(path, []byte(f.content), 0o644); err != nil {
			t.Fatal(err)
		}
		then := now.Add(-f.age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	for dir := range d.dirs {
		mkdir(filepath.Join(root, storage.Root, filepath.FromSlash(dir)))
	}
	return root
}

// inMemory makes a directory on a tmpfs where there is one, or else on a disk. These tests make so
// many directories that a disk takes ten times as long. Package e2e runs on a disk.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "regsweep-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { remove(t, dir) })
	return dir
}

// remove removes a directory before the test ends, so that little memory is in use.
func remove(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// readDisk reads a root directory back. Ages are not read.
func readDisk(t testing.TB, root string) *disk {
	t.Helper()
	d := newDisk()
	base := filepath.Join(root, storage.Root)
	err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == base {
			return err
		}
		name, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			inside, err := os.ReadDir(path)
			if len(inside) == 0 {
				d.dirs[name] = true
			}
			return err
		}
		content, err := os.ReadFile(path)
		d.files[name] = file{content: string(content)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openStore(t testing.TB, root string) storage.Store {
	t.Helper()
	store, err := filesystem.Open(root, storage.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// names are the paths of the files, sorted.
func (d *disk) names() []string { return slices.Sorted(maps.Keys(d.files)) }

// sameNames says how two lists of names differ.
func sameNames(t testing.TB, what string, got, want []string) {
	t.Helper()
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: missing: %s", what, name)
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: too many: %s", what, name)
		}
	}
}
