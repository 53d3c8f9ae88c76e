//! Reading the source tree: which files there are, what their modules are called, how long they are without their tests.

use std::path::{Path, PathBuf};

/// One Rust file of a package.
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    text: String,
}

impl SourceFile {
    /// Whether the whole file is a test module: `tests.rs`, or below a folder `tests` of the package's `src`.
    pub(super) fn is_test(&self) -> bool {
        let below_src = self.path.iter().skip_while(|part| *part != "src").skip(1);
        self.path.ends_with("tests.rs") || below_src.into_iter().any(|part| part == "tests")
    }

    /// The file's own name and those of the modules that it declares.
    pub(super) fn module_names(&self) -> impl Iterator<Item = &str> {
        let own = self.path.file_stem().and_then(|stem| stem.to_str());
        let declared = self.text.lines().filter_map(|line| {
            let line = line.trim_start();
            let rest = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
            rest.strip_prefix("mod ")?.split([';', ' ', '{']).next()
        });
        own.into_iter().chain(declared)
    }

    /// The number of lines outside `#[cfg(test)]` items. It relies on rustfmt: an item that opens with a brace at
    /// the end of its line closes with one in the column where it began.
    pub(super) fn lines_without_tests(&self) -> usize {
        let mut count = 0;
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                count += 1;
                continue;
            }
            let end = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
            let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
            if item.is_some_and(|item| item.ends_with('{')) {
                lines.by_ref().find(|line| *line == end);
            }
        }
        count
    }
}

/// Every `.rs` file below `src/`, and the build script.
pub(super) fn rust_files(package: &Path) -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&package.join("src"), &mut paths);
    let build = package.join("build.rs");
    if build.exists() {
        paths.push(build);
    }
    paths.into_iter().map(|path| SourceFile { text: std::fs::read_to_string(&path).unwrap(), path }).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[test]
fn test_modules_do_not_count_and_code_after_them_does() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\nfn d() {}\n";
    let file = SourceFile { path: "src/a.rs".into(), text: text.to_owned() };
    assert_eq!(file.lines_without_tests(), 3);
}

#[test]
fn declared_modules_and_the_file_itself_are_named() {
    let file = SourceFile { path: "src/own.rs".into(), text: "pub mod first;\nmod second {\n}\n".to_owned() };
    assert_eq!(file.module_names().collect::<Vec<_>>(), ["own", "first", "second"]);
}
