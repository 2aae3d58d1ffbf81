package manifest

import "bytes"

// Purpose is the use of a manifest and of the content that only it refers to.
type Purpose uint8

// The purposes.
const (
	ForImages       Purpose = iota // an image, an index of images, or a purpose that is not known
	ForAttestations                // statements about an image, such as its provenance
	ForSignatures                  // signatures and SBOMs
	ForBuildCache                  // a cache of BuildKit
	ForCharts                      // a Helm chart
)

// purposes has the beginnings of the media types that show a purpose. The type of an artifact, of a
// config or of a layer shows it.
var purposes = []struct {
	prefix  string
	purpose Purpose
}{
	{"application/vnd.in-toto", ForAttestations},
	{"application/vnd.dsse.envelope.", ForAttestations},
	{"application/vnd.dev.cosign.", ForSignatures},
	{"application/vnd.dev.sigstore.", ForSignatures},
	{"application/vnd.cncf.notary.", ForSignatures},
	{"application/spdx", ForSignatures},
	{"text/spdx", ForSignatures},
	{"application/vnd.cyclonedx", ForSignatures},
	{"application/vnd.syft", ForSignatures},
	{"application/vnd.buildkit.cacheconfig.", ForBuildCache},
	{"application/vnd.cncf.helm.", ForCharts},
}

// purposeOf returns the purpose that a media type shows. Nearly all media types are those of images.
func purposeOf(mediaType []byte) Purpose {
	if bytes.HasPrefix(mediaType, []byte("application/vnd.oci.image.")) || bytes.HasPrefix(mediaType, []byte("application/vnd.docker.")) {
		return ForImages
	}
	for _, known := range purposes {
		if bytes.HasPrefix(mediaType, []byte(known.prefix)) {
			return known.purpose
		}
	}
	return ForImages
}

// purpose returns the purpose of the manifest that was read: the first one that a media type shows.
func (p *Parser) purpose(references []Reference) Purpose {
	purpose := purposeOf(p.artifactType)
	for i := 0; purpose == ForImages && i < len(references); i++ {
		purpose = purposeOf(references[i].MediaType)
	}
	return purpose
}
