//! As much of `protoc` as the build scripts of prost call, so that nothing has to be installed.
//!
//! The call is `protoc --include_imports --include_source_info -o FILE -I DIR... PROTO...`: compile
//! these files and write their descriptors. Every other flag is refused by name. It generates no
//! code, runs no plugin and has no version.

use std::{env, error::Error, ffi::OsString, fs, path::PathBuf, process::ExitCode};

/// What a build script asks for.
#[derive(Debug, Default)]
struct Call {
    imports: bool,
    source_info: bool,
    output: Option<PathBuf>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

#[expect(clippy::print_stderr, reason = "a build script shows it as what went wrong")]
fn main() -> ExitCode {
    match call(env::args_os().skip(1)).and_then(|call| compile(&call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn call(mut words: impl Iterator<Item = OsString>) -> Result<Call, Box<dyn Error>> {
    let mut call = Call::default();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match &*text {
            "--include_imports" => call.imports = true,
            "--include_source_info" => call.source_info = true,
            "-o" => call.output = Some(words.next().ok_or("-o wants a file")?.into()),
            "-I" => call.folders.push(words.next().ok_or("-I wants a folder")?.into()),
            flag if flag.starts_with('-') => return Err(format!("{flag} is not known").into()),
            _file => call.files.push(word.into()),
        }
    }
    Ok(call)
}

fn compile(call: &Call) -> Result<(), Box<dyn Error>> {
    let output = call.output.as_ref().ok_or("descriptors are all that is made; -o is missing")?;
    let mut compiler = protox::Compiler::new(&call.folders)?;
    compiler.include_imports(call.imports).include_source_info(call.source_info);
    compiler.open_files(&call.files)?;
    fs::write(output, compiler.encode_file_descriptor_set())?;
    Ok(())
}
