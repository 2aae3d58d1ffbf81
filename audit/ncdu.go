package audit

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"regsweep/inventory"
)

// The directories that are neither repositories nor tags. No repository can have such a name.
const (
	untaggedDir   = "(untagged)"
	garbageDir    = "(garbage)"
	uploadsDir    = "(uploads)"
	quarantineDir = "(quarantine)"
	otherDir      = "(other)"
)

// NcduStart is the beginning of each file that WriteNcdu writes.
const NcduStart = `[1,2,{"progname":"regsweep"`

// WriteNcdu writes the storage in the format that ncdu -f reads. The components of the repositories'
// names, and the tags, are directories. A blob is one inode. It has a link in the directory of each
// keeper, so that ncdu counts it once in each directory above. The total is that of the bill.
//
// It writes while it marks one repository after another, so it takes no memory for the links. The error
// is that of w, or the cause of ctx.
func (k *Keepers) WriteNcdu(ctx context.Context, w io.Writer, bytes Bytes) error {
	f := k.facts
	out := &ncduWriter{w: bufio.NewWriterSize(w, 1<<16)}
	out.begin(f.Inventory.Identity.Root, seconds(f.Now))
	for _, i := range k.order {
		if err := cmp.Or(context.Cause(ctx), out.err()); err != nil {
			return err
		}
		r := f.Inventory.Repositories[i]
		path := strings.Split(r.Name, "/")
		out.dir(seconds(r.Pushed), path...)
		k.each(i, f.Graph.View(i), func(n int, ids []inventory.ID) {
			if n == len(r.Tags) {
				if len(ids) > 0 {
					out.dir(0, append(path, untaggedDir)...)
				}
			} else {
				name := r.Tags[n].Name
				if k.isDir[r.Name+"/"+name] {
					name = ":" + name
				}
				out.dir(seconds(r.TagPushed(n)), append(path, name)...)
			}
			for _, id := range ids {
				out.blob(k, id)
			}
		})
	}
	out.dir(0, garbageDir)
	for id := range inventory.ID(f.Inventory.Blobs()) {
		if k.kept[id].links == 0 {
			out.blob(k, id)
		}
	}
	for _, i := range k.order {
		r := f.Inventory.Repositories[i]
		for _, u := range r.Uploads {
			out.dir(0, append([]string{uploadsDir}, strings.Split(r.Name, "/")...)...)
			out.file(u.ID, u.Bytes)
		}
	}
	out.dir(0, quarantineDir)
	out.file("files", bytes.Quarantine)
	out.dir(0, otherDir)
	out.file("links, strays, files of regsweep", bytes.Other)
	out.dir(0)
	out.text("]]\n")
	return out.w.Flush()
}

// ncduWriter writes ncdu's format: a directory is an array of its info and its entries. A bufio.Writer
// keeps the first error.
type ncduWriter struct {
	w       *bufio.Writer
	path    []string // the open directories below the root
	scratch []byte
}

// err returns the first error of the file.
func (n *ncduWriter) err() error {
	_, err := n.w.Write(nil)
	return err
}

func (n *ncduWriter) begin(root string, now int64) {
	n.text(NcduStart + `,"timestamp":` + strconv.FormatInt(now, 10) + "},\n")
	n.text(`[{"name":` + quoted(root) + `,"dev":1}`)
}

// dir closes and opens directories until path is open. modified is the time of the last directory, or 0.
func (n *ncduWriter) dir(modified int64, path ...string) {
	same := 0
	for same < min(len(path), len(n.path)) && path[same] == n.path[same] {
		same++
	}
	n.text(strings.Repeat("]", len(n.path)-same))
	for i, name := range path[same:] {
		n.text(",\n" + `[{"name":` + quoted(name))
		if modified != 0 && same+i == len(path)-1 {
			n.text(`,"mtime":` + strconv.FormatInt(modified, 10))
		}
		n.text("}")
	}
	n.path = append(n.path[:same], path[same:]...)
}

// blob writes one link to a blob. It leaves out a blob if only its directory exists.
func (n *ncduWriter) blob(k *Keepers, id inventory.ID) {
	size, exists := k.facts.Inventory.Size(id)
	if !exists {
		return
	}
	b := append(n.scratch[:0], ",\n{\"name\":\""...)
	b = append(b, k.facts.Inventory.Digest(id)...)
	b = appendSize(append(b, '"'), size)
	b = append(b, `,"ino":`...)
	b = strconv.AppendUint(b, uint64(id)+1, 10)
	if links := k.kept[id].links; links > 1 {
		b = append(b, `,"hlnkc":true,"nlink":`...)
		b = strconv.AppendUint(b, uint64(links), 10)
	}
	n.scratch = append(b, '}')
	n.w.Write(n.scratch)
}

// file writes a file of a size that is not 0.
func (n *ncduWriter) file(name string, size int64) {
	if size > 0 {
		n.text(",\n{\"name\":" + quoted(name) + string(appendSize(nil, size)) + "}")
	}
}

// appendSize appends the apparent size and the size on disk. Both are the size in bytes.
func appendSize(b []byte, size int64) []byte {
	b = strconv.AppendInt(append(b, `,"asize":`...), size, 10)
	return strconv.AppendInt(append(b, `,"dsize":`...), size, 10)
}

func (n *ncduWriter) text(s string) { n.w.WriteString(s) }

// quoted returns a JSON string. ncdu accepts no DEL that is not escaped.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be encoded
	}
	return strings.ReplaceAll(string(b), "\x7f", `\u007f`)
}
