//! House rules that neither rustfmt nor clippy knows. Each rule looks at one file; a finding names file and line.
//!
//! The words that a rule forbids are put together from parts here, so that this file passes its own rules.

use crate::workspace::{Workspace, read};
use anyhow::Result;
use std::path::Path;

/// Modules that may hold `unsafe`: small ones, each block with its `SAFETY` (clippy's `undocumented_unsafe_blocks`
/// asks for that). Everywhere else the workspace denies it.
const UNSAFE: &[&str] = &[
    "benches/src/sys.rs",
    "benches/src/wal/uring.rs",
    "engine/src/env/aligned.rs",
    "engine/src/env/real_file.rs",
    "engine/src/env/streaming.rs",
    "engine/src/env/sys.rs",
    "engine/src/env/uring.rs",
    "protocol/src/net/tcp.rs",
    "server/src/memory.rs",
];

/// What a module with `unsafe` opens with.
const ALLOW_UNSAFE: &str = concat!("allow(unsafe", "_code");

/// Code lines (tests not counted) above which a file is reported, without failing: look for the seam.
const LINES_MAX: usize = 600;

/// Folders at the top of some machine's tree: a path there is no path on another machine.
const MACHINE_FOLDERS: &[&str] = &["home", "root", "work", "farm", "Users", "tmp"];

/// Words that mark unfinished work.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Macros that stand where code should.
const STUBS: &[&str] = &[concat!("to", "do!("), concat!("unimplemen", "ted!(")];

/// What settings that name a package registry look like: which one serves is the machine's business, not the
/// project's.
const REGISTRIES: &[&str] = &[
    concat!("index", "-url"),
    concat!("find", "-links"),
    concat!("<reposi", "tories>"),
    concat!("<plugin", "Repositories>"),
    concat!("<mir", "ror>"),
    concat!("art", "ifactory"),
    concat!("GO", "PROXY="),
];

/// The one registry that a lock file may name.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Everything that breaks a rule.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let files = workspace.files()?;
    for module in UNSAFE.iter().filter(|module| !files.iter().any(|file| file == Path::new(module))) {
        findings.push(format!("{module} is gone: take it off the list in xtask/src/tidy.rs"));
    }
    for path in files {
        let Ok(text) = read(&workspace.root.join(&path)) else { continue }; // a picture, say
        let name = path.to_string_lossy();
        let mut report = |line: usize, what: String| findings.push(format!("{name}:{line}: {what}"));
        if name.ends_with(".lock") {
            lock_file(&text, &mut report);
            continue;
        }
        words(&text, &mut report);
        if name.ends_with(".rs") {
            rust(&path, &text, &mut report);
        } else if name.ends_with("/Cargo.toml") && !text.contains("[lints]\nworkspace = true") {
            report(1, "does not take over the workspace's lints".into());
        }
    }
    Ok(findings)
}

type Report<'a> = &'a mut dyn FnMut(usize, String);

fn lock_file(text: &str, report: Report<'_>) {
    for (number, line) in numbered(text) {
        if let Some(source) = line.strip_prefix("source = ")
            && source.trim_matches('"') != CRATES_IO
        {
            report(number, format!("a crate from {source}, not from crates.io"));
        }
    }
}

fn words(text: &str, report: Report<'_>) {
    for (number, line) in numbered(text) {
        if let Some(path) = machine_path(line) {
            report(number, format!("`{path}` is a path of one machine"));
        }
        if let Some(word) = UNFINISHED.iter().find(|word| has_word(line, word)) {
            report(number, format!("{word}: finish it, or open an issue"));
        }
        if let Some(word) = REGISTRIES.iter().find(|word| line.contains(**word)) {
            report(number, format!("`{word}` names a package registry"));
        }
    }
}

fn rust(path: &Path, text: &str, report: Report<'_>) {
    if !text.starts_with("//!") {
        report(1, "opens without `//!`: say what the module owns".into());
    }
    let allowed = UNSAFE.iter().any(|module| path == Path::new(module));
    if allowed && !text.contains(ALLOW_UNSAFE) {
        report(1, "has no unsafe any more: take it off the list in xtask/src/tidy.rs".into());
    }
    for (number, line) in numbered(text) {
        if line.contains(ALLOW_UNSAFE) && !allowed {
            report(number, "unsafe is not for this module; the list is in xtask/src/tidy.rs".into());
        }
        if let Some(stub) = STUBS.iter().find(|stub| line.contains(**stub)) {
            report(number, format!("`{stub}`: a stub"));
        }
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
    if code > LINES_MAX {
        println!("tidy: {} has {code} lines before its tests: look for the seam", path.display());
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// An absolute path below one of the machine folders, up to the next delimiter.
fn machine_path(line: &str) -> Option<&str> {
    MACHINE_FOLDERS.iter().find_map(|folder| {
        let needle = format!("/{folder}/");
        let start = line.match_indices(&needle).map(|(start, _)| start).find(|start| {
            // After a letter, a dot or the like it is the middle of a relative path or of a URL.
            line[..*start]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric() && !"._-}/~".contains(before))
        })?;
        let end = line[start..].find(|c: char| c.is_whitespace() || "\"'`)>,;".contains(c));
        Some(&line[start..end.map_or(line.len(), |length| start + length)])
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: impl Fn(&str, Report<'_>), text: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        rule(text, &mut |line, _| lines.push(line));
        lines
    }

    #[test]
    fn a_path_of_this_machine_is_found_and_a_relative_one_is_not() {
        let path = format!("open(\"/{}/me/data\")", "home");
        assert_eq!(machine_path(&path), Some(&path[6..path.len() - 2]));
        assert_eq!(machine_path("docs/work/plan.md"), None);
        assert_eq!(machine_path("https://example.org/home/page"), None);
    }

    #[test]
    fn marks_of_unfinished_work_are_words_not_parts_of_words() {
        let mark = UNFINISHED[0];
        assert_eq!(found(words, &format!("a\n// {mark}: later\nM{mark}S")), [2]);
    }

    #[test]
    fn a_lock_file_names_crates_io_alone() {
        let text = format!("source = \"{CRATES_IO}\"\nsource = \"registry+https://example.org/index\"");
        assert_eq!(found(lock_file, &text), [2]);
    }

    #[test]
    fn a_module_needs_its_opening_and_no_unlisted_unsafe() {
        let rule = |text: &str, report: Report<'_>| rust(Path::new("a.rs"), text, report);
        assert!(found(rule, "//! Owns a.\nfn a() {}\n").is_empty());
        assert_eq!(found(rule, &format!("fn a() {{ {}) }}", STUBS[0])), [1, 1]);
        assert_eq!(found(rule, &format!("//! Owns a.\n#![allow(unsafe{}code)]", '_')), [2]);
    }
}
