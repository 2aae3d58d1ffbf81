package registrytest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
)

// defaultAddr is where a registry listens that is told nothing else. StartBinary
// gives it another address.
const defaultAddr = "127.0.0.1:5000"

// FilesystemConfig is a config.yml for a registry on a filesystem, with deletion
// enabled.
func FilesystemConfig(root string, readOnly bool) string {
	return StorageConfig(configuration.Storage{"filesystem": {"rootdirectory": root}}, readOnly)
}

// StorageConfig is the same for a registry on any storage.
func StorageConfig(storage configuration.Storage, readOnly bool) string {
	return configYAML(storage, defaultAddr, readOnly)
}

// ConfigYAML is the config.yml of a registry that has a Root or a Storage: the same
// storage in the same mode at the same address.
func (r *Registry) ConfigYAML() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	storage := r.config.Storage
	if r.config.Root != "" {
		storage = configuration.Storage{"filesystem": {"rootdirectory": r.config.Root}}
	}
	return configYAML(storage, r.host, r.readOnly)
}

// configYAML writes a config.yml as people do, with the storage's sections in a
// stable order. Their parameters are plain values.
func configYAML(storage configuration.Storage, addr string, readOnly bool) string {
	var b strings.Builder
	b.WriteString("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n")
	for _, section := range slices.Sorted(maps.Keys(storage)) {
		fmt.Fprintf(&b, "  %s:\n", section)
		for _, parameter := range slices.Sorted(maps.Keys(storage[section])) {
			value := storage[section][parameter]
			if text, ok := value.(string); ok {
				value = strconv.Quote(text)
			}
			fmt.Fprintf(&b, "    %s: %v\n", parameter, value)
		}
	}
	if storage["delete"] == nil {
		b.WriteString("  delete:\n    enabled: true\n")
	}
	// It would begin after a random time, and 2.8 panics at some keys.
	fmt.Fprintf(&b, "  maintenance:\n    uploadpurging:\n      enabled: false\n    readonly:\n      enabled: %t\nhttp:\n  addr: %s\n", readOnly, addr)
	return b.String()
}
