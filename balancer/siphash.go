package balancer

import "math/bits"

// hsiphash is the kernel's function of this name on 64-bit machines, for one word:
// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), cut
// to 32 bits. Both halves of the key are the same here.
func hsiphash(word uint32, key uint64) uint32 {
	const size = 4 // bytes, which the last block ends with
	block := uint64(size)<<56 | uint64(word)
	s := sipState{
		key ^ 0x736f6d6570736575,
		key ^ 0x646f72616e646f6d,
		key ^ 0x6c7967656e657261,
		key ^ 0x7465646279746573,
	}
	s[3] ^= block
	s.round()
	s[0] ^= block
	s[2] ^= 0xff
	s.round()
	s.round()
	s.round()
	return uint32(s[0] ^ s[1] ^ s[2] ^ s[3])
}

type sipState [4]uint64

func (s *sipState) round() {
	s[0] += s[1]
	s[2] += s[3]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[1]
	s[0] += s[3]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] = bits.RotateLeft64(s[2], 32)
}
