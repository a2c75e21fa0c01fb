//! The elements of one page before it is complete.
//!
//! ```text
//! leaf    0 flags u32      4 offset of the key u32   8 key's length u32   12 value's length u32
//! branch  0 offset u32     4 key's length u32        8 page of the child u64
//! ```
//!
//! Elements stand side by side behind the page's header, then come their keys and values. Offsets
//! count from the element itself.

use crate::page::{PAGE_HEADER_LEN, PageKind};

/// Length of an element without key and value.
const ELEMENT_LEN: usize = 16;

/// The flag of an element whose value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 0x01;

/// A value, or how long it will be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    Length(usize),
}

impl Content<'_> {
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Length(len) => len,
        }
    }
}

/// What an element refers to.
#[derive(Debug, Clone, Copy)]
enum Element {
    Entry { flags: u32, key_len: usize, value_len: usize },
    Child { page: u64, key_len: usize },
}

impl Element {
    const fn data_len(self) -> usize {
        match self {
            Self::Entry { key_len, value_len, .. } => key_len + value_len,
            Self::Child { key_len, .. } => key_len,
        }
    }
}

/// The elements of a page.
#[derive(Debug, Default)]
pub(crate) struct Node {
    elements: Vec<Element>,
    /// Keys and values, one after the other; without the values while a file is planned.
    data: Vec<u8>,
    /// What `data` would hold with the values.
    data_len: usize,
    /// The key of the first element.
    first_key: Vec<u8>,
}

impl Node {
    pub(crate) fn push_entry(&mut self, flags: u32, key: &[u8], value: Content<'_>) {
        self.push(Element::Entry { flags, key_len: key.len(), value_len: value.len() }, key);
        if let Content::Bytes(value) = value {
            self.data.extend(value);
        }
    }

    pub(crate) fn push_child(&mut self, key: &[u8], page: u64) {
        self.push(Element::Child { page, key_len: key.len() }, key);
    }

    fn push(&mut self, element: Element, key: &[u8]) {
        if self.elements.is_empty() {
            self.first_key = key.to_vec();
        }
        self.elements.push(element);
        self.data.extend(key);
        self.data_len += element.data_len();
    }

    /// Takes the first elements away; of branches only, which have no values.
    pub(crate) fn drop_first(&mut self, elements: usize) {
        let len: usize = self.elements.drain(..elements).map(Element::data_len).sum();
        self.data.drain(..len);
        self.data_len -= len;
        let key_len = self.elements.first().map_or(0, |first| first.data_len());
        self.first_key = self.data[..key_len].to_vec();
    }

    pub(crate) fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
        self.data_len = 0;
    }

    pub(crate) const fn len(&self) -> usize {
        self.elements.len()
    }

    pub(crate) fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// The length of a page with all elements.
    pub(crate) const fn whole_page_len(&self) -> usize {
        PAGE_HEADER_LEN + self.elements.len() * ELEMENT_LEN + self.data_len
    }

    /// How much longer the page would be with one more entry.
    pub(crate) const fn entry_len(key: &[u8], value: Content<'_>) -> usize {
        ELEMENT_LEN + key.len() + value.len()
    }

    /// The length of a page with the first elements.
    pub(crate) fn page_len(&self, elements: usize) -> usize {
        let data: usize = self.elements[..elements].iter().map(|element| element.data_len()).sum();
        PAGE_HEADER_LEN + elements * ELEMENT_LEN + data
    }

    /// Appends the first elements as a page has them behind its header.
    pub(crate) fn write(&self, kind: PageKind, elements: usize, bytes: &mut Vec<u8>) {
        let mut offset = elements * ELEMENT_LEN;
        let mut data_len = 0;
        for element in &self.elements[..elements] {
            match *element {
                Element::Entry { flags, key_len, value_len } => {
                    debug_assert_eq!(kind, PageKind::Leaf);
                    for word in [flags, word(offset), word(key_len), word(value_len)] {
                        bytes.extend(word.to_le_bytes());
                    }
                }
                Element::Child { page, key_len } => {
                    debug_assert_eq!(kind, PageKind::Branch);
                    bytes.extend(word(offset).to_le_bytes());
                    bytes.extend(word(key_len).to_le_bytes());
                    bytes.extend(page.to_le_bytes());
                }
            }
            offset = offset + element.data_len() - ELEMENT_LEN;
            data_len += element.data_len();
        }
        bytes.extend(&self.data[..data_len]);
    }
}

fn word(number: usize) -> u32 {
    u32::try_from(number).expect("an entry is shorter than 4 GiB")
}
