package imagetest

import "github.com/opencontainers/go-digest"

// schema1 is Docker's first manifest format, unsigned.
type schema1 struct {
	SchemaVersion int               `json:"schemaVersion"`
	Name          string            `json:"name"`
	Tag           string            `json:"tag"`
	Architecture  string            `json:"architecture"`
	FSLayers      []schema1Layer    `json:"fsLayers"`
	History       []schema1Ancestor `json:"history"`
}

type schema1Layer struct {
	BlobSum digest.Digest `json:"blobSum"`
}

type schema1Ancestor struct {
	V1Compatibility string `json:"v1Compatibility"`
}

// Schema1 is an image in Docker's first manifest format, as release 2.4 and later
// stored it: without its signatures. Release 3 neither takes nor serves it, so it
// is for Tree.Manifest alone. Layers are listed topmost first there.
func Schema1(name, tag string, layers ...Blob) *Manifest {
	m := schema1{SchemaVersion: 1, Name: name, Tag: tag, Architecture: "amd64"}
	for i := len(layers) - 1; i >= 0; i-- {
		m.FSLayers = append(m.FSLayers, schema1Layer{layers[i].Digest()})
		id := map[string]string{"id": layers[i].Digest().Encoded()}
		m.History = append(m.History, schema1Ancestor{string(encode(id))})
	}
	return &Manifest{
		MediaType: "application/vnd.docker.distribution.manifest.v1+json",
		Content:   encode(m),
		Blobs:     append([]Blob{}, layers...),
	}
}
