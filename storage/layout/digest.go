package layout

import (
	"encoding/hex"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// DecodeSHA256 decodes 64 lower-case hex digits. Other text is not allowed.
func DecodeSHA256(hex string) (sum [32]byte) {
	sum, _ = ParseSHA256([]byte(hex))
	return sum
}

// ParseSHA256 decodes the hex part of a SHA-256 digest: 64 lower-case digits, and nothing else.
func ParseSHA256(text []byte) (sum [32]byte, ok bool) {
	if len(text) != 2*len(sum) {
		return sum, false
	}
	bad := byte(0)
	for i := range sum {
		high, low := hexDigits[text[2*i]], hexDigits[text[2*i+1]]
		sum[i] = high<<4 | low
		bad |= high | low
	}
	return sum, bad < 16
}

// DigestOf is the digest of a SHA-256 sum. It spares the allocations of go-digest.
func DigestOf(sum *[32]byte) digest.Digest {
	const algorithm = "sha256:"
	var text [len(algorithm) + 2*len(sum)]byte
	copy(text[:], algorithm)
	hex.Encode(text[len(algorithm):], sum[:])
	return digest.Digest(text[:])
}

// HexSHA256 is a sum as the layout writes it in names.
func HexSHA256(sum [32]byte) string {
	var text [2 * len(sum)]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}

// hexDigits has the value of each lower-case hex digit, and notHex for all other bytes.
var hexDigits = func() (table [256]byte) {
	for i := range table {
		table[i] = notHex
	}
	for value, digit := range []byte("0123456789abcdef") {
		table[digit] = byte(value)
	}
	return table
}()

const notHex = 0xff

// AppendBlobPath appends the path of the blob with a SHA-256 digest to path.
func AppendBlobPath(path []byte, sum *[32]byte) []byte {
	path = hex.AppendEncode(append(path, storage.BlobsDir+"/sha256/"...), sum[:1])
	path = hex.AppendEncode(append(path, '/'), sum[:])
	return append(path, "/"+DataFile...)
}
