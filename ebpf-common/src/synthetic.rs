//! Synthetic source addresses: the identity of a sandbox, seen from the gate.
//!
//! On the way into the gate a packet's source is replaced by an address that
//! names the sandbox's slot, and so chosen that the one's complement sum of
//! its 16-bit words is that of the real one. No checksum changes, be it
//! complete, partial or that of a segment which the kernel has yet to cut.
//!
//! IPv4: `240.0.0.0/4`, slot in the upper half, the fix-up in the lower.
//! IPv6: `fde7::/16`, then slot, epoch, zeros and the fix-up.

/// How many sandboxes an instance can have at once: the upper halves of
/// `240.0.0.0` to `254.255.255.255`.
pub const SLOTS: u32 = 0x0f00;

const V4_BASE: u16 = 0xf000;
const V6_PREFIX: u16 = 0xfde7;

/// The IPv4 address by which the gate knows `real` of the sandbox in `slot`.
#[inline(always)]
pub fn synthetic_v4(slot: u16, real: [u8; 4]) -> [u8; 4] {
    let high = V4_BASE.wrapping_add(slot);
    let low = fix_up(sum_v4(real), u32::from(high));
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    [a, b, c, d]
}

/// The IPv6 address by which the gate knows `real` of the sandbox in `slot`.
#[inline(always)]
pub fn synthetic_v6(slot: u16, epoch: u32, real: &[u8; 16]) -> [u8; 16] {
    let [e0, e1, e2, e3] = epoch.to_be_bytes();
    let fixed = u32::from(V6_PREFIX)
        + u32::from(slot)
        + u32::from(u16::from_be_bytes([e0, e1]))
        + u32::from(u16::from_be_bytes([e2, e3]));
    let ([p, q], [s, t]) = (V6_PREFIX.to_be_bytes(), slot.to_be_bytes());
    let [y, z] = fix_up(sum_v6(real), fixed).to_be_bytes();
    [p, q, s, t, e0, e1, e2, e3, 0, 0, 0, 0, 0, 0, y, z]
}

/// The slot that a synthetic IPv4 address names.
#[inline(always)]
pub fn slot_of_v4(address: [u8; 4]) -> Option<u16> {
    let [a, b, ..] = address;
    let slot = u16::from_be_bytes([a, b]).checked_sub(V4_BASE)?;
    (u32::from(slot) < SLOTS).then_some(slot)
}

/// The slot and epoch that a synthetic IPv6 address names.
#[inline(always)]
pub fn slot_of_v6(address: &[u8; 16]) -> Option<(u16, u32)> {
    let [p, q, s, t, e0, e1, e2, e3, 0, 0, 0, 0, 0, 0, _, _] = *address else {
        return None;
    };
    let slot = u16::from_be_bytes([s, t]);
    let known = u16::from_be_bytes([p, q]) == V6_PREFIX && u32::from(slot) < SLOTS;
    known.then_some((slot, u32::from_be_bytes([e0, e1, e2, e3])))
}

/// The word that brings `fixed` to the one's complement sum `wanted`.
#[inline(always)]
fn fix_up(wanted: u32, fixed: u32) -> u16 {
    let complement = u32::from(!fold(fixed));
    fold(u32::from(fold(wanted)) + complement)
}

#[inline(always)]
fn sum_v4([a, b, c, d]: [u8; 4]) -> u32 {
    u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
}

#[inline(always)]
fn sum_v6(address: &[u8; 16]) -> u32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    sum_v4([a, b, c, d]) + sum_v4([e, f, g, h]) + sum_v4([i, j, k, l]) + sum_v4([m, n, o, p])
}

/// Folds the carries of a sum of at most 65,535 words into 16 bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the second fold leaves 16 bits"
)]
pub(crate) fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::cast_possible_truncation, reason = "it is 3,840")]
    const SLOTS: u16 = super::SLOTS as u16;

    /// The sum as RFC 1071 means it: 0 and 0xffff are the same number.
    fn canonical(words: &[u8]) -> u64 {
        let sum: u64 = words
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]))
            .sum();
        sum % 0xffff
    }

    proptest! {
        #[test]
        fn v4_keeps_the_sum_and_names_the_slot(slot in 0..SLOTS, real in 1_u32..) {
            let real = real.to_be_bytes();
            let synthetic = synthetic_v4(slot, real);
            prop_assert_eq!(canonical(&synthetic), canonical(&real));
            prop_assert_eq!(slot_of_v4(synthetic), Some(slot));
        }

        #[test]
        fn v6_keeps_the_sum_and_names_slot_and_epoch(
            slot in 0..SLOTS, epoch: u32, real in any::<[u8; 16]>(),
        ) {
            let synthetic = synthetic_v6(slot, epoch, &real);
            prop_assert_eq!(canonical(&synthetic), canonical(&real));
            prop_assert_eq!(slot_of_v6(&synthetic), Some((slot, epoch)));
        }

        #[test]
        fn v4_outside_the_range_names_no_slot(address in 0_u32..0xf000_0000) {
            prop_assert_eq!(slot_of_v4(address.to_be_bytes()), None);
        }
    }

    #[test]
    fn last_slot_stays_below_255() {
        let [high, ..] = synthetic_v4(SLOTS - 1, [10, 0, 0, 1]);
        assert_eq!(high, 254);
        assert_eq!(slot_of_v4([255, 255, 255, 255]), None);
    }
}
