package layout

import (
	"encoding/binary"
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
// It decodes eight digits at a time, in a fifth of the time that a table of digits takes.
func ParseSHA256(text []byte) (sum [32]byte, ok bool) {
	const ones = 0x0101010101010101
	if len(text) != 2*len(sum) {
		return sum, false
	}
	bad := uint64(0)
	for i := 0; i < len(text); i += 8 {
		digits := binary.LittleEndian.Uint64(text[i:])
		// Letters have bit 6 set, and digits 0 to 9 do not. The value of a letter is its low
		// four bits plus 9. Encoding the values again shows whether they were hex digits.
		values := digits&(ones*0x0f) + 9*(digits>>6&ones)
		letters := (values + 6*ones) >> 4 & ones
		bad |= values&(ones*0xf0) | (digits ^ (values + '0'*ones + ('a'-'9'-1)*letters))
		packed := (values<<4 | values>>8) & 0x00ff00ff00ff00ff
		packed = (packed | packed>>8) & 0x0000ffff0000ffff
		binary.LittleEndian.PutUint32(sum[i/2:], uint32(packed|packed>>16))
	}
	return sum, bad == 0
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
