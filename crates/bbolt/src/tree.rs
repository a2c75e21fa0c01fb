//! The tree of one bucket, from its entries in order.
//!
//! Pages are filled to the end and go out when they are complete: a leaf when the next entry does
//! not fit, a branch when its children do not. An entry that is larger than a page gets several in
//! a row for itself.
//!
//! bbolt relies on two children of every branch that is not the root. So a branch waits until two
//! more children are there before it goes out, and at the end the last but one gives one of its own
//! away if the last has a single one.

use crate::{
    node::{Content, Node},
    page::{PAGE_BYTES, PAGE_HEADER_LEN, PageKind, Pages, push_header},
};

/// The longest key: a branch then holds seven children at least.
pub const KEY_LEN_MAX: usize = 512;

/// A bucket whose only page is no longer than this lies in the page that names it, as in bbolt.
const INLINE_LEN_MAX: usize = PAGE_BYTES / 4;

/// The tree of one bucket.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The leaf that is being filled.
    leaf: Node,
    /// The branches that are being filled, from those above leaves up.
    branches: Vec<Branch>,
}

/// A branch that is being filled.
#[derive(Debug, Default)]
struct Branch {
    node: Node,
    /// The children that fit a page.
    fitting: usize,
}

/// Where the tree of a bucket begins.
#[derive(Debug)]
pub(crate) enum Root {
    /// In a page.
    Page(u64),
    /// It is one page that lies in the value of the bucket: its bytes, if there are any, and its
    /// length.
    Inline(Vec<u8>, usize),
}

impl Tree {
    pub(crate) fn push(&mut self, flags: u32, key: &[u8], value: Content<'_>, pages: &mut Pages) {
        let len = self.leaf.whole_page_len() + Node::entry_len(key, value);
        if self.leaf.len() > 0 && len > PAGE_BYTES {
            self.finish_leaf(pages);
        }
        self.leaf.push_entry(flags, key, value);
    }

    /// Completes all pages; a small bucket stays inside the page above if it `may_be_inline`.
    pub(crate) fn finish(mut self, may_be_inline: bool, pages: &mut Pages) -> Root {
        if self.branches.is_empty() {
            let len = self.leaf.whole_page_len();
            if may_be_inline && len <= INLINE_LEN_MAX {
                return Root::Inline(self.inline_page(pages.are_kept()), len);
            }
            return Root::Page(pages.push(PageKind::Leaf, &self.leaf, self.leaf.len()));
        }
        self.finish_leaf(pages);
        let mut level = 0;
        loop {
            let branch = &self.branches[level];
            let (children, fitting) = (branch.node.len(), branch.fitting);
            if children > fitting {
                self.finish_branch(level, fitting - 1, pages);
            }
            let rest = &self.branches[level].node;
            if level + 1 == self.branches.len() {
                return Root::Page(pages.push(PageKind::Branch, rest, rest.len()));
            }
            let children = rest.len();
            self.finish_branch(level, children, pages);
            level += 1;
        }
    }

    fn finish_leaf(&mut self, pages: &mut Pages) {
        let page = pages.push(PageKind::Leaf, &self.leaf, self.leaf.len());
        let key = self.leaf.first_key().to_vec();
        self.leaf.clear();
        self.push_child(0, &key, page, pages);
    }

    fn push_child(&mut self, level: usize, key: &[u8], page: u64, pages: &mut Pages) {
        if level == self.branches.len() {
            self.branches.push(Branch::default());
        }
        let branch = &mut self.branches[level];
        let all_fitted = branch.fitting == branch.node.len();
        branch.node.push_child(key, page);
        if all_fitted && branch.node.whole_page_len() <= PAGE_BYTES {
            branch.fitting += 1;
        }
        let fitting = branch.fitting;
        if branch.node.len() == fitting + 2 {
            self.finish_branch(level, fitting, pages);
        }
    }

    /// Completes a branch of the first so many children of its level.
    fn finish_branch(&mut self, level: usize, children: usize, pages: &mut Pages) {
        let branch = &mut self.branches[level];
        let page = pages.push(PageKind::Branch, &branch.node, children);
        let key = branch.node.first_key().to_vec();
        branch.node.drop_first(children);
        // What stays are two children at most.
        branch.fitting = branch.node.len();
        self.push_child(level + 1, &key, page, pages);
    }

    fn inline_page(&self, kept: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if kept {
            bytes.reserve(PAGE_HEADER_LEN);
            push_header(&mut bytes, 0, PageKind::Leaf, self.leaf.len(), 0);
            self.leaf.write(PageKind::Leaf, self.leaf.len(), &mut bytes);
        }
        bytes
    }
}
