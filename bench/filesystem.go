package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"regsweep/bench/generate"
	"regsweep/internal/registrytest"

	"golang.org/x/sys/unix"
)

// tree writes a registry to a directory of its own in dir and returns its config.yml.
func (b *bench) tree(ctx context.Context, dir, name string, registry *generate.Registry) (root, config string, err error) {
	root, config = filepath.Join(dir, name), filepath.Join(dir, name+".yml")
	b.say("\nwriting a registry of %+v", registry.Size())
	if err := registry.WriteTree(ctx, root); err != nil {
		return "", "", err
	}
	syscall.Sync() // so that writing it does not go on while it is read
	return root, config, os.WriteFile(config, []byte(registrytest.FilesystemConfig(root, true)), 0o644)
}

// filesystem compares dry runs on many repositories, with a warm cache of the kernel
// and a cold one.
func (b *bench) filesystem(ctx context.Context) (Section, error) {
	registry := generate.New(b.seed, generate.Many(b.repositories))
	root, config, err := b.tree(ctx, b.dir, "many", registry)
	if err != nil {
		return Section{}, err
	}
	section := Section{
		Title: "Filesystem, many repositories, dry run",
		Size:  registry.Size(),
	}
	cold := b.cold
	if cold {
		if err := dropCaches(); err != nil {
			cold = false
			section.Notes = append(section.Notes, "Without a cold cache, which only root can have: "+err.Error()+".")
		}
	}
	for _, state := range []string{"warm", "cold"} {
		for _, deleteUntagged := range []bool{false, true} {
			if state == "cold" && !cold {
				continue
			}
			c := comparison{
				key:        "fs " + state + suffix(deleteUntagged),
				title:      fmt.Sprintf("Filesystem, %s cache%s", state, withM(deleteUntagged)),
				contenders: b.onTree(task{config: config, deleteUntagged: deleteUntagged, registry: registry}, root),
			}
			if state == "cold" {
				c.before = func(_ context.Context, contender contender) error { return cool(contender) }
			} else if err := b.warm(ctx, c.contenders); err != nil {
				return section, err
			}
			result, err := b.compare(ctx, c)
			if err != nil {
				return section, err
			}
			result.Garbage = registry.Garbage(deleteUntagged)
			section.Cases = append(section.Cases, result)
		}
	}
	return section, os.RemoveAll(root)
}

// repository compares dry runs on one large repository.
func (b *bench) repository(ctx context.Context) (Section, error) {
	registry := generate.NewRepository(b.seed, b.tags, b.untagged)
	root, config, err := b.tree(ctx, b.dir, "one", registry)
	if err != nil {
		return Section{}, err
	}
	section := Section{Title: "Filesystem, one repository, dry run", Size: registry.Size()}
	for _, deleteUntagged := range []bool{false, true} {
		c := comparison{
			key:        "repo" + suffix(deleteUntagged),
			title:      "One repository" + withM(deleteUntagged),
			contenders: b.onTree(task{config: config, deleteUntagged: deleteUntagged, registry: registry}, root),
		}
		if err := b.warm(ctx, c.contenders); err != nil {
			return section, err
		}
		result, err := b.compare(ctx, c)
		if err != nil {
			return section, err
		}
		result.Garbage = registry.Garbage(deleteUntagged)
		section.Cases = append(section.Cases, result)
	}
	return section, os.RemoveAll(root)
}

// removal compares real removals, each from a registry written anew, on disk and, where
// there is one with room, on a tmpfs: a disk may take longer for what it is told of than
// the programs for telling it.
func (b *bench) removal(ctx context.Context) (Section, error) {
	registry := generate.New(b.seed, generate.Neglected(b.repositories))
	section := Section{
		Title: "Filesystem, removal",
		Size:  registry.Size(),
		Notes: []string{"regsweep also removes the tag index entries that lead to what goes, which neither peer does."},
	}
	title := fmt.Sprintf("Filesystem, removal of %s blobs", number(registry.Garbage(false).Blobs))
	places := []comparison{{key: "removal", title: title}}
	dirs := []string{b.dir}
	if memory, err := inMemory(); err != nil {
		section.Notes = append(section.Notes, "Not in memory: "+err.Error()+".")
	} else {
		defer os.RemoveAll(memory)
		places = append(places, comparison{key: "removal memory", title: title + ", in memory (tmpfs)"})
		dirs = append(dirs, memory)
	}
	for i, c := range places {
		result, err := b.removalIn(ctx, dirs[i], c, registry)
		if err != nil {
			return section, err
		}
		section.Cases = append(section.Cases, result)
	}
	return section, nil
}

// removalIn compares removals from a registry in dir. Removed is what is no longer there
// afterwards.
func (b *bench) removalIn(ctx context.Context, dir string, c comparison, registry *generate.Registry) (Case, error) {
	root, config, err := b.tree(ctx, dir, "neglected", registry)
	if err != nil {
		return Case{}, err
	}
	t := task{config: config, remove: true, registry: registry}
	want := registry.Garbage(false)
	c.contenders = append([]contender{b.regsweep(t)}, b.releases(t)...)
	c.before = func(ctx context.Context, _ contender) error {
		if err := os.RemoveAll(root); err != nil {
			return err
		}
		if err := registry.WriteTree(ctx, root); err != nil {
			return err
		}
		syscall.Sync()
		return nil
	}
	c.after = func(context.Context, contender) error { return wantBlobs(root, registry.Size().Blobs-want.Blobs) }
	result, err := b.compare(ctx, c)
	result.Garbage = want
	return result, errors.Join(err, os.RemoveAll(root))
}

// roomInMemory is more than the largest registry here takes on a tmpfs, in bytes.
const roomInMemory = 4 << 30

// inMemory makes a directory on a tmpfs.
func inMemory() (dir string, err error) {
	const shared = "/dev/shm"
	var stat unix.Statfs_t
	if err := unix.Statfs(shared, &stat); err != nil {
		return "", fmt.Errorf("%s: %w", shared, err)
	}
	const tmpfs = 0x01021994 // TMPFS_MAGIC of Linux, statfs(2)
	if int64(stat.Type) != tmpfs || stat.Bavail*uint64(stat.Bsize) < roomInMemory {
		return "", fmt.Errorf("%s is no tmpfs with %d GiB of room", shared, roomInMemory>>30)
	}
	return os.MkdirTemp(shared, "regsweep-bench-")
}

// onTree are all who take part on a filesystem.
func (b *bench) onTree(t task, root string) []contender {
	return append([]contender{b.regsweep(t), b.floor(t.registry, "floor DIRECTORY", nil, root)}, b.releases(t)...)
}

// warm makes the first two contenders bring into the kernel's cache what they read.
func (b *bench) warm(ctx context.Context, contenders []contender) error {
	for _, c := range contenders[:2] {
		if _, _, err := b.execute(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// cool drops the kernel's caches, but for the program itself: its size is not what is
// measured.
func cool(c contender) error {
	if err := dropCaches(); err != nil {
		return err
	}
	program, err := os.Open(c.argv[0])
	if err != nil {
		return err
	}
	defer program.Close()
	_, err = io.Copy(io.Discard, program)
	return err
}

// dropCaches makes the kernel forget files and directories.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

// wantBlobs sees to it that so many blobs are left, whatever a collector says.
func wantBlobs(root string, n int) error {
	blobs, err := filepath.Glob(filepath.Join(root, "docker/registry/v2/blobs/sha256/*/*/data"))
	if err == nil && len(blobs) != n {
		err = fmt.Errorf("%s blobs are left, and %s should be", number(len(blobs)), number(n))
	}
	return err
}

func suffix(deleteUntagged bool) string {
	if deleteUntagged {
		return " -m"
	}
	return ""
}

func withM(deleteUntagged bool) string {
	if deleteUntagged {
		return ", with -m"
	}
	return ""
}
