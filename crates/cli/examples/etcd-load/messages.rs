//! The few protobuf messages of etcd's API that the generator needs, written by hand.
//!
//! Requests come as whole gRPC frames, so that one buffer is filled once. Of answers only the fields
//! that somebody looks at are found; everything else is stepped over.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) fn put(key: u64, value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(value.len() + 48);
    message.put_bytes(0, 5);
    put_fields(&mut message, key, value);
    framed(message)
}

fn put_fields(message: &mut BytesMut, key: u64, value: &[u8]) {
    put_bytes(message, 1, &key_bytes(key));
    put_bytes(message, 2, value);
}

pub(crate) fn range(key: u64) -> Bytes {
    let mut message = BytesMut::with_capacity(48);
    message.put_bytes(0, 5);
    put_bytes(&mut message, 1, &key_bytes(key));
    framed(message)
}

/// TxnRequest: success = 2 of RequestOp: request_put = 2.
pub(crate) fn txn(keys: std::ops::Range<u64>, value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    message.put_bytes(0, 5);
    for key in keys {
        let mut fields = BytesMut::new();
        put_fields(&mut fields, key, value);
        let mut operation = BytesMut::new();
        put_bytes(&mut operation, 2, &fields);
        put_bytes(&mut message, 2, &operation);
    }
    framed(message)
}

/// A value whose first eight bytes tell when it was sent: microseconds in network order.
pub(crate) fn stamp(value: &[u8], sent: Duration) -> Vec<u8> {
    let mut stamped = value.to_vec();
    let micros = u64::try_from(sent.as_micros()).unwrap_or(u64::MAX);
    stamped[..8].copy_from_slice(&micros.to_be_bytes());
    stamped
}

/// What [`stamp`] wrote.
pub(crate) fn stamped(value: &[u8]) -> Duration {
    let head = value.first_chunk().copied().unwrap_or_default();
    Duration::from_micros(u64::from_be_bytes(head))
}

/// First key, and the key after the last where there is more than one.
pub(crate) type Keys = (Vec<u8>, Option<&'static [u8]>);

pub(crate) fn one_key(key: u64) -> Keys {
    (key_bytes(key).to_vec(), None)
}

pub(crate) fn every_key() -> Keys {
    (b"bench/".to_vec(), Some(b"bench0"))
}

/// WatchRequest: create_request = 1 (WatchCreateRequest: key = 1, range_end = 2).
pub(crate) fn watch_create((key, end): &Keys) -> Bytes {
    let mut create = BytesMut::new();
    put_bytes(&mut create, 1, key);
    if let Some(end) = end {
        put_bytes(&mut create, 2, end);
    }
    let mut message = BytesMut::new();
    message.put_bytes(0, 5);
    put_bytes(&mut message, 1, &create);
    framed(message)
}

/// What a watcher looks at in an answer.
pub(crate) struct WatchAnswer {
    pub(crate) created: bool,
    /// The value of each event.
    pub(crate) values: Vec<Bytes>,
}

/// WatchResponse: created = 3, events = 11 (Event: kv = 2 (KeyValue: value = 5)).
pub(crate) fn watch_answer(message: &Bytes) -> WatchAnswer {
    let mut answer = WatchAnswer { created: false, values: Vec::new() };
    let mut at = 0;
    while let Some((number, value)) = next_field(message, &mut at) {
        match (number, value) {
            (3, Field::Number(created)) => answer.created = created == 1,
            (11, Field::Bytes(event)) => {
                if let Some(Field::Bytes(kv)) = field(&event, 2)
                    && let Some(Field::Bytes(value)) = field(&kv, 5)
                {
                    answer.values.push(value);
                }
            }
            _ => {}
        }
    }
    answer
}

/// Writes the head of a gRPC frame into the five bytes left for it: not compressed, the length.
fn framed(mut message: BytesMut) -> Bytes {
    let len = u32::try_from(message.len() - 5).expect("messages are far below 4 GiB");
    message[1..5].copy_from_slice(&len.to_be_bytes());
    message.freeze()
}

fn put_bytes(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.put_slice(bytes);
}

fn put_varint(message: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        message.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.put_u8(number.to_le_bytes()[0]);
}

/// A field's value, of the two kinds that are looked at.
pub(crate) enum Field {
    Number(u64),
    Bytes(Bytes),
}

/// The first field with this number.
pub(crate) fn field(message: &Bytes, wanted: u64) -> Option<Field> {
    let mut at = 0;
    while let Some((number, value)) = next_field(message, &mut at) {
        if number == wanted {
            return Some(value);
        }
    }
    None
}

/// The field at `at` and its number; `None` at the end, and for what is not of the two kinds.
fn next_field(message: &Bytes, at: &mut usize) -> Option<(u64, Field)> {
    let tag = take_varint(message, at)?;
    let value = match tag & 7 {
        0 => Field::Number(take_varint(message, at)?),
        2 => {
            let len = usize::try_from(take_varint(message, at)?).ok()?;
            let end = at.checked_add(len).filter(|end| *end <= message.len())?;
            let bytes = message.slice(*at..end);
            *at = end;
            Field::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take_varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn key_bytes(key: u64) -> [u8; 14] {
    let mut bytes = *b"bench/00000000";
    let mut rest = key;
    for digit in bytes[6..].iter_mut().rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    bytes
}
