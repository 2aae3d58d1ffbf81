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
	"regsweep/internal/human"
	"regsweep/internal/registrytest"

	"golang.org/x/sys/unix"
)

// seed is of the content of all registries.
const seed = 1

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

// filesystem compares dry runs on many repositories, with a warm cache of the kernel and, as root,
// with a cold one.
func (b *bench) filesystem(ctx context.Context) error {
	registry := generate.New(seed, generate.Many(b.repositories))
	root, config, err := b.tree(ctx, b.dir, "many", registry)
	if err != nil {
		return err
	}
	for _, state := range b.states() {
		for _, deleteUntagged := range []bool{false, true} {
			c := comparison{
				title:      fmt.Sprintf("filesystem, %s cache%s", state, withM(deleteUntagged)),
				garbage:    registry.Garbage(deleteUntagged),
				contenders: b.onTree(task{config: config, deleteUntagged: deleteUntagged, registry: registry}, root),
			}
			if !deleteUntagged { // an audit says both
				c.contenders = append(c.contenders, b.audit(task{config: config, registry: registry}))
			}
			if state == "cold" {
				c.before = func(_ context.Context, contender contender) error { return cool(contender) }
			} else if err := b.warm(ctx, c.contenders); err != nil {
				return err
			}
			if err := b.compare(ctx, c); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(root)
}

// repository compares dry runs on one large repository.
func (b *bench) repository(ctx context.Context) error {
	registry := generate.NewRepository(seed, b.tags, b.untagged)
	root, config, err := b.tree(ctx, b.dir, "one", registry)
	if err != nil {
		return err
	}
	for _, deleteUntagged := range []bool{false, true} {
		c := comparison{
			title:      "one repository" + withM(deleteUntagged),
			garbage:    registry.Garbage(deleteUntagged),
			contenders: b.onTree(task{config: config, deleteUntagged: deleteUntagged, registry: registry}, root),
		}
		if err := b.warm(ctx, c.contenders); err != nil {
			return err
		}
		if err := b.compare(ctx, c); err != nil {
			return err
		}
	}
	return os.RemoveAll(root)
}

// removal compares real removals, each from a registry written anew, on disk and, if there is a tmpfs
// with room, in memory: a disk may need more time for the freed blocks than the programs.
func (b *bench) removal(ctx context.Context) error {
	registry := generate.New(seed, generate.Neglected(b.repositories))
	if err := b.removalIn(ctx, b.dir, "removal", registry); err != nil {
		return err
	}
	memory, err := inMemory()
	if err != nil {
		b.say("not in memory: %s", err)
		return nil
	}
	defer os.RemoveAll(memory)
	return b.removalIn(ctx, memory, "removal in memory", registry)
}

// removalIn compares removals from a registry in dir, and counts the blobs that are left.
func (b *bench) removalIn(ctx context.Context, dir, title string, registry *generate.Registry) error {
	root, config, err := b.tree(ctx, dir, "neglected", registry)
	if err != nil {
		return err
	}
	t := task{config: config, remove: true, registry: registry}
	want := registry.Garbage(false)
	err = b.compare(ctx, comparison{
		title: title, garbage: want,
		contenders: append([]contender{b.regsweep(t)}, b.releases(t)...),
		before: func(ctx context.Context, _ contender) error {
			if err := os.RemoveAll(root); err != nil {
				return err
			}
			if err := registry.WriteTree(ctx, root); err != nil {
				return err
			}
			syscall.Sync()
			return nil
		},
		after: func(context.Context, contender) error { return wantBlobs(root, registry.Size().Blobs-want.Blobs) },
	})
	return errors.Join(err, os.RemoveAll(root))
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
	return append([]contender{b.regsweep(t), b.floor(t.registry, nil, root)}, b.releases(t)...)
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

// cool drops the kernel's caches, and reads the program itself again: its size is not measured.
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

// states are those of the kernel's cache in which filesystems are compared.
func (b *bench) states() []string {
	if !b.cold {
		return []string{"warm"}
	}
	if err := dropCaches(); err != nil {
		b.say("not with a cold cache, which only root can have: %s", err)
		return []string{"warm"}
	}
	return []string{"warm", "cold"}
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
		err = fmt.Errorf("%s blobs are left, and %s should be", human.Count(len(blobs)), human.Count(n))
	}
	return err
}

func withM(deleteUntagged bool) string {
	if deleteUntagged {
		return ", -m"
	}
	return ""
}
