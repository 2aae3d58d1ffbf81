package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// sum is the SHA-256 digest of a manifest.
type sum = [sha256.Size]byte

// entry is a manifest that has a file.
type entry struct {
	etag  [8]byte // a hash of the ETag, which may be any string
	size  uint32  // in bytes
	state uint8
}

// The states of an entry.
const (
	unseen    = iota // not in this run's listing, or with another size or ETag
	confirmed        // as it is in the listing
	added            // by this run
)

func etagMark(etag string) [8]byte {
	sum := sha256.Sum256([]byte(etag))
	return [8]byte(sum[:8])
}

// disk is how many bytes the file takes on most disks.
func (e entry) disk() int64 {
	const block = 4 << 10
	return (int64(e.size) + block - 1) / block * block
}

// dirSuffix ends the name of a storage's directory. Another format will have another.
const dirSuffix = ".manifests2"

// dirName is the name of a storage's directory.
func dirName(of storage.Identity) (string, error) {
	identity, err := json.Marshal(of)
	sum := sha256.Sum256(identity)
	return hex.EncodeToString(sum[:16]) + dirSuffix, err
}

func isDirName(name string) bool {
	id, isOurs := strings.CutSuffix(name, dirSuffix)
	return isOurs && len(id) == 32 && layout.IsHex(id)
}

// path is the path of an entry's file: it says all that there is to know of it, so that listing a
// directory needs no other call.
//
//	DIR/a/abcdef… (64 digits)-0123456789abcdef-1234
//	      digest                ETag             size
func (e entry) path(dir string, s sum) string {
	digits := hex.EncodeToString(s[:])
	return dir + "/" + digits[:1] + "/" + digits + "-" + hex.EncodeToString(e.etag[:]) + "-" + strconv.FormatUint(uint64(e.size), 10)
}

// parseName takes the name of an entry's file apart.
func parseName(name string) (s sum, e entry, ok bool) {
	fields := strings.Split(name, "-")
	if len(fields) != 3 || len(fields[0]) != 2*len(s) || len(fields[1]) != 2*len(e.etag) {
		return s, e, false
	}
	_, sumErr := hex.Decode(s[:], []byte(fields[0]))
	_, etagErr := hex.Decode(e.etag[:], []byte(fields[1]))
	size, sizeErr := strconv.ParseUint(fields[2], 10, 32)
	e.size = uint32(size)
	return s, e, cmp.Or(sumErr, etagErr, sizeErr) == nil && size <= manifestLimit
}

// tempMark is in the name of a file that is being written.
const tempMark = ".tmp-"

// each visits the files in a storage's directory. It removes those that a killed run has left
// unfinished. The error is the first one; it visits what it can.
func (f *files) each(dir string, visit func(s sum, e entry)) (first error) {
	for i := range 16 {
		in := fmt.Sprintf("%s/%x", dir, i)
		found, err := fs.ReadDir(f.root.FS(), in)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		first = cmp.Or(first, err)
		for _, file := range found {
			name, _, isTemp := strings.Cut(file.Name(), tempMark)
			s, e, ok := parseName(name)
			switch {
			case !ok:
			case !isTemp:
				visit(s, e)
			default:
				if info, err := file.Info(); err == nil && f.now.Sub(info.ModTime()) > tempAge {
					first = cmp.Or(first, f.remove(in+"/"+file.Name()))
				}
			}
		}
	}
	return first
}
