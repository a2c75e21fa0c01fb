//! A bound on how deep transactions may be nested while they are decoded.
//!
//! A nested transaction costs a few bytes each, and decoding one inside the other takes a stack
//! frame each: without a bound, a small message of garbage would overflow the stack. serde gives
//! a type's decoder no place to keep the depth, so it is counted per thread; decoding never
//! pauses half-way.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, de};

/// The most transactions that may stand inside each other, the outermost included.
pub const TXN_DEPTH_MAX: u64 = 16;

thread_local! {
    static DEPTH: Cell<u64> = const { Cell::new(1) };
}

/// Counts one level for as long as it lives.
struct Level;

impl Level {
    fn enter() -> Option<Self> {
        DEPTH.with(|depth| {
            (depth.get() < TXN_DEPTH_MAX).then(|| {
                depth.set(depth.get() + 1);
                Self
            })
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Decodes a transaction inside a transaction, or what it came to.
pub(crate) fn deserialize_nested<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let _level = Level::enter()
        .ok_or_else(|| de::Error::custom("transactions are nested too deep to be decoded"))?;
    T::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Operation, Txn};

    fn nested(depth: u64) -> Txn {
        let mut txn = Txn { compares: vec![], success: vec![], failure: vec![] };
        for _ in 1..depth {
            txn = Txn { compares: vec![], success: vec![Operation::Txn(txn)], failure: vec![] };
        }
        txn
    }

    #[test]
    fn nesting_is_decoded_up_to_the_limit_and_refused_beyond_again_and_again() {
        for _ in 0..3 {
            let deepest = mainstay_codec::encode(&nested(TXN_DEPTH_MAX)).unwrap();
            assert_eq!(
                mainstay_codec::decode::<Txn>(&deepest, 1_000).unwrap(),
                nested(TXN_DEPTH_MAX)
            );
            let deeper = mainstay_codec::encode(&nested(TXN_DEPTH_MAX + 1)).unwrap();
            assert!(mainstay_codec::decode::<Txn>(&deeper, 1_000).is_err());
        }
    }

    #[test]
    fn a_long_run_of_nesting_bytes_does_not_exhaust_the_stack() {
        // No compares, one operation, of the fourth kind, and so on.
        let bytes = [0, 1, 3].repeat(300_000);
        assert!(mainstay_codec::decode::<Txn>(&bytes, bytes.len()).is_err());
    }
}
