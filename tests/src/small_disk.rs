//! A small disk of its own, which a test can fill without harming anybody.
//!
//! It is a file system in memory, and mounting one takes rights that not everybody has.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What is written at once while filling.
const BLOCK: usize = 1024 * 1024;

/// A mounted disk; unmounted with its handle.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of `mebibytes`.
    ///
    /// # Errors
    /// Why it cannot be mounted here, as a sentence.
    pub fn mount(mebibytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "mainstay-tests"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("there is no mount: {error}"))?;
        if mounted.status.success() {
            return Ok(Self { folder });
        }
        Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes until nothing fits any more.
    ///
    /// # Panics
    /// If the disk refuses for another reason than that it is full.
    pub fn fill(&self) {
        let path = self.filling();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut block = BLOCK;
        while block > 0 {
            match file.write_all(&vec![1; block]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => block /= 2,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn empty(&self) {
        fs::remove_file(self.filling()).expect("it was filled");
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: nodes that still end have files open.
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
