//! CRC32C, bit by bit: the tests compute checksums of their own, so that what they forge is
//! refused for what it says and not for a wrong sum.

/// The Castagnoli polynomial, reflected (RFC 3720, appendix B.4 has examples).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _bit in 0..8 {
            let is_odd = sum & 1 == 1;
            sum >>= 1;
            if is_odd {
                sum ^= POLYNOMIAL;
            }
        }
    }
    !sum
}
