package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
)

var digestInText = regexp.MustCompile(`sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}`)

// digests finds every digest in any text, name or value, however deep. The content is known to be
// JSON.
func (p *Parser) digests(content []byte) (references []Reference) {
	seen := map[string]bool{}
	p.start(content)
	for {
		token, err := p.decoder.ReadToken()
		if err != nil { // the end
			return references
		}
		if token.Kind() != '"' {
			continue
		}
		for _, found := range digestInText.FindAllString(token.String(), -1) {
			if !seen[found] {
				seen[found] = true
				references = append(references, Reference{Digest: []byte(found), Size: -1})
			}
		}
	}
}

// attached finds the subject in content of an unknown kind: such content may be a referrer too. It
// ignores a subject that is no descriptor. A registry would not list its referrer either.
func (p *Parser) attached(content []byte) (found []byte, conflict error) {
	p.start(content)
	p.open('{')
	for p.more() {
		if p.field() != partNames[subject] {
			p.value()
			continue
		}
		if p.null() {
			continue
		}
		if !p.open('{') {
			return nil, nil
		}
		var digests [][]byte
		for p.more() {
			if p.field() != "digest" {
				p.value()
			} else if text, err := p.text(); err != nil {
				return nil, nil
			} else if text != nil {
				digests = append(digests, text)
			}
		}
		if len(digests) == 0 || !isDigest(digests[0]) {
			continue
		}
		for _, digest := range digests {
			if found == nil {
				found = digest
			}
			if !bytes.Equal(found, digest) {
				conflict = cmp.Or(conflict, fmt.Errorf("subject: %w", disagreed(found, digest)))
			}
		}
	}
	return found, conflict
}
