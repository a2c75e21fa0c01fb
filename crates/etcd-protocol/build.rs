//! Compiles the protocol files to Rust, without a compiler of protobuf on the machine.

use std::{error::Error, fs, path::PathBuf};

use tonic_prost_build::configure;

/// Everything else is imported by these.
const FILES: [&str; 9] = [
    "kv.proto",
    "watch.proto",
    "lease.proto",
    "cluster.proto",
    "maintenance.proto",
    "auth.proto",
    "lock.proto",
    "election.proto",
    "health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    configure().build_transport(false).bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
