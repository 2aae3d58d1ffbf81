package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"regsweep/inventory"
	"regsweep/sweep"
)

const planName = "plan"

var planKind = fileKind{"plan", "a plan", 0o600, func(line []byte) bool {
	var header struct {
		Plan int `json:"plan"`
	}
	return json.Unmarshal(line, &header) == nil && header.Plan > 0
}}

// keepOlder renames a plan that newOutputFile has found at path, if a restore could need it: it names a
// link that is no longer in the inventory. It returns the new name, or "" if nothing was renamed.
func (f *outputFile) keepOlder(inventory *inventory.Inventory) (name string, err error) {
	if f == nil || f.before == nil || f.before.Size() == 0 {
		return "", nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return "", f.wrap(err)
	}
	needed, err := sweep.IsNeeded(file, inventory)
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.checkUnchanged()
	}
	if err != nil || !needed {
		return "", f.wrap(err)
	}
	stem := f.path + "." + f.before.ModTime().UTC().Format("20060102T150405Z")
	name = stem
	for n := 2; ; n++ {
		if _, err = os.Lstat(name); err != nil {
			break
		}
		name = fmt.Sprintf("%s-%d", stem, n)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = renameDurably(f.path, name)
	}
	if err != nil {
		return "", f.wrap(err)
	}
	f.before = nil
	return name, nil
}
