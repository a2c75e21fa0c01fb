//! A whole file: its buckets, and the two passes over them.

use crate::{
    node::{BUCKET_FLAG, Content},
    page::{PAGE_BYTES, Pages, head},
    tree::{KEY_LEN_MAX, Root, Tree},
};

/// Length of what a bucket's value begins with: its root page and its sequence.
const BUCKET_HEADER_LEN: usize = 16;

/// How long a file will be, and where its root; made by a [`FilePlanner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePlan {
    pages: u64,
    root: u64,
}

impl FilePlan {
    /// The length of the file in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// The first pass: what the file will hold, without values.
#[derive(Debug)]
pub struct FilePlanner(Buckets);

impl FilePlanner {
    /// A file without buckets.
    #[must_use]
    pub const fn new() -> Self {
        Self(Buckets::new(Pages::counted()))
    }

    /// Begins the next bucket.
    ///
    /// # Panics
    /// If its name does not come after that of the one before, or has no bytes or more than
    /// [`KEY_LEN_MAX`].
    pub fn bucket(&mut self, name: &str) {
        self.0.begin(name);
    }

    /// Adds an entry to the bucket.
    ///
    /// # Panics
    /// As [`FilePlanner::bucket`], of the key; and if there is no bucket.
    pub fn entry(&mut self, key: &[u8], value_len: usize) {
        self.0.entry(key, Content::Length(value_len));
    }

    /// The plan of a file of all that.
    #[must_use]
    pub fn finish(self) -> FilePlan {
        let (root, pages) = self.0.finish();
        FilePlan { pages: pages.count(), root }
    }
}

impl Default for FilePlanner {
    fn default() -> Self {
        Self::new()
    }
}

/// The second pass: the bytes of a file that was planned.
#[derive(Debug)]
pub struct FileWriter {
    plan: FilePlan,
    buckets: Buckets,
}

/// What was written is not what was planned, so the bytes are no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplanned;

impl FileWriter {
    /// The beginning of the file.
    #[must_use]
    pub fn new(plan: FilePlan) -> Self {
        Self { plan, buckets: Buckets::new(Pages::kept(head(plan.root, plan.pages))) }
    }

    /// Begins the next bucket.
    ///
    /// # Panics
    /// As [`FilePlanner::bucket`].
    pub fn bucket(&mut self, name: &str) {
        self.buckets.begin(name);
    }

    /// Adds an entry to the bucket.
    ///
    /// # Panics
    /// As [`FilePlanner::entry`].
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.buckets.entry(key, Content::Bytes(value));
    }

    /// The bytes that are complete, from where the last ones ended. Whoever takes them now and
    /// then holds no more than a page of each level between.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.buckets.pages.take()
    }

    /// The last bytes.
    ///
    /// # Errors
    /// [`Unplanned`] if the entries were others than those of the plan.
    pub fn finish(self) -> Result<Vec<u8>, Unplanned> {
        let (root, mut pages) = self.buckets.finish();
        let written = FilePlan { pages: pages.count(), root };
        if written == self.plan { Ok(pages.take()) } else { Err(Unplanned) }
    }
}

/// The buckets of a file, in either pass.
#[derive(Debug)]
struct Buckets {
    /// The tree that names the buckets.
    root: Option<Tree>,
    /// The bucket that is being filled: its name, its entries, and the key of the last one.
    open: Option<(Vec<u8>, Tree, Vec<u8>)>,
    pages: Pages,
}

impl Buckets {
    const fn new(pages: Pages) -> Self {
        Self { root: None, open: None, pages }
    }

    fn begin(&mut self, name: &str) {
        let before = self.open.as_ref().map(|(name, ..)| &name[..]).unwrap_or_default();
        assert_follows(name.as_bytes(), before);
        self.end();
        self.open = Some((name.as_bytes().to_vec(), Tree::default(), Vec::new()));
    }

    fn entry(&mut self, key: &[u8], value: Content<'_>) {
        let (_name, tree, last) = self.open.as_mut().expect("an entry is of a bucket");
        assert_follows(key, last);
        last.clear();
        last.extend(key);
        tree.push(0, key, value, &mut self.pages);
    }

    fn end(&mut self) {
        let Some((name, tree, _last)) = self.open.take() else { return };
        let root = tree.finish(true, &mut self.pages);
        let names = self.root.get_or_insert_default();
        let header = |page: u64| {
            let mut header = page.to_le_bytes().to_vec();
            header.extend(0_u64.to_le_bytes());
            header
        };
        match root {
            Root::Page(page) => {
                names.push(BUCKET_FLAG, &name, Content::Bytes(&header(page)), &mut self.pages);
            }
            Root::Inline(page, _len) if self.pages.are_kept() => {
                let mut value = header(0);
                value.extend(page);
                names.push(BUCKET_FLAG, &name, Content::Bytes(&value), &mut self.pages);
            }
            Root::Inline(_page, len) => {
                let value = Content::Length(BUCKET_HEADER_LEN + len);
                names.push(BUCKET_FLAG, &name, value, &mut self.pages);
            }
        }
    }

    /// The page of the root, and all pages.
    fn finish(mut self) -> (u64, Pages) {
        self.end();
        let Root::Page(root) = self.root.unwrap_or_default().finish(false, &mut self.pages) else {
            unreachable!("the root of a file is a page");
        };
        (root, self.pages)
    }
}

/// Asserts that a key may follow another one.
fn assert_follows(key: &[u8], before: &[u8]) {
    assert!(key.len() <= KEY_LEN_MAX, "a key of {} bytes is too long", key.len());
    assert!(key > before, "{key:?} does not come after {before:?}");
}
