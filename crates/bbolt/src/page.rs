//! The bytes of pages: their headers, the two heads of a file, and where complete pages go.
//!
//! All numbers are little endian, as on every machine that etcd supports.
//!
//! ```text
//! page    0 id u64   8 kind u16   10 elements u16   12 further pages that it covers u32   16 ..
//! meta   16 magic u32   20 version u32   24 page size u32   28 flags u32
//!        32 root page u64   40 sequence of the root u64   48 free list's page u64
//!        56 number of pages u64   64 transaction u64   72 FNV-1a of 16..72 u64
//! ```

use crate::node::Node;

/// The size of a page in bytes.
pub const PAGE_BYTES: usize = 4_096;

/// Length of what stands at the front of each page.
pub(crate) const PAGE_HEADER_LEN: usize = 16;

/// The page of the free list, which is empty.
const FREE_LIST_PAGE: u64 = 2;

/// The first page behind the head of a file.
pub(crate) const FIRST_PAGE: u64 = 3;

/// [`PAGE_BYTES`] as it stands in a head.
const PAGE_LEN: u32 = 4_096;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum PageKind {
    Branch = 0x01,
    Leaf = 0x02,
    Meta = 0x04,
    FreeList = 0x10,
}

/// Appends the header of a page.
pub(crate) fn push_header(bytes: &mut Vec<u8>, id: u64, kind: PageKind, count: usize, more: u64) {
    let count = u16::try_from(count).expect("a page of the usual size holds fewer elements");
    let more = u32::try_from(more).expect("an entry covers fewer pages");
    bytes.extend(id.to_le_bytes());
    bytes.extend((kind as u16).to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(more.to_le_bytes());
}

/// The pages in front of all others: two heads, which say the same, and the free list.
pub(crate) fn head(root: u64, pages: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..FREE_LIST_PAGE {
        let start = bytes.len();
        push_header(&mut bytes, id, PageKind::Meta, 0, 0);
        for word in [MAGIC, VERSION, PAGE_LEN, 0] {
            bytes.extend(word.to_le_bytes());
        }
        // The transaction is the number of the page: bbolt writes odd ones to page 1.
        for word in [root, 0, FREE_LIST_PAGE, pages, id] {
            bytes.extend(word.to_le_bytes());
        }
        let checksum = fnv1a(&bytes[start + PAGE_HEADER_LEN..]);
        bytes.extend(checksum.to_le_bytes());
        fill_page(&mut bytes);
    }
    push_header(&mut bytes, FREE_LIST_PAGE, PageKind::FreeList, 0, 0);
    fill_page(&mut bytes);
    bytes
}

fn fill_page(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Where complete pages go: nowhere while a file is planned, but they are counted.
#[derive(Debug)]
pub(crate) struct Pages {
    /// The id of the next page.
    next: u64,
    /// Their bytes, as far as nobody took them.
    bytes: Option<Vec<u8>>,
}

impl Pages {
    /// Counts only.
    pub(crate) const fn counted() -> Self {
        Self { next: FIRST_PAGE, bytes: None }
    }

    /// Keeps the bytes, those in `head` first.
    pub(crate) const fn kept(head: Vec<u8>) -> Self {
        Self { next: FIRST_PAGE, bytes: Some(head) }
    }

    /// Adds a page, or several if it needs more room; its id.
    pub(crate) fn push(&mut self, kind: PageKind, node: &Node, elements: usize) -> u64 {
        let id = self.next;
        let covered = (node.page_len(elements).div_ceil(PAGE_BYTES)) as u64;
        self.next += covered;
        if let Some(bytes) = &mut self.bytes {
            push_header(bytes, id, kind, elements, covered - 1);
            node.write(kind, elements, bytes);
            fill_page(bytes);
        }
        id
    }

    /// Whether bytes are written, or pages only counted.
    pub(crate) const fn are_kept(&self) -> bool {
        self.bytes.is_some()
    }

    /// How many pages there are, those in front included.
    pub(crate) const fn count(&self) -> u64 {
        self.next
    }

    /// The bytes since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.bytes.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_head_is_fnv() {
        // From the paper's own list of examples.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
