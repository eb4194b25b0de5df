//! A source file as the rules look at it: without its tests, with its imports spelt out.

use std::fs;
use std::path::Path;

/// One file below `src/`.
pub(super) struct Source {
    name: String,
    /// Its path as a module, without `crate::`; empty for `lib.rs` and `main.rs`.
    pub(super) module: String,
    lines: Vec<String>,
    /// Whether each line belongs to tests.
    tests: Vec<bool>,
}

impl Source {
    pub(super) fn read(src: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
        let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = if stem == "lib" || stem == "main" { String::new() } else { stem.replace('/', "::") };
        let lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        let all = module.split("::").any(|it| it == "tests" || it.ends_with("_tests"));
        let tests = if all { vec![true; lines.len()] } else { test_lines(&lines) };
        Self { name, module, lines, tests }
    }

    pub(super) fn is_mod_rs(&self) -> bool {
        self.name.ends_with("mod.rs")
    }

    pub(super) fn place(&self, line: usize) -> String {
        format!("src/{}:{line}", self.name)
    }

    /// All lines with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(at, text)| (at + 1, text.as_str()))
    }

    /// The lines that are neither tests nor comments.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.all().zip(&self.tests).filter(|(_, tests)| !**tests).map(|(line, _)| line);
        code.filter(|(_, text)| !text.trim_start().starts_with("//"))
    }

    /// Every path into this crate that the code names, without `crate::`, with its line.
    pub(super) fn imports(&self) -> Vec<(usize, String)> {
        let mut text = String::new();
        let mut starts = Vec::new();
        for (line, code) in self.code() {
            starts.push((text.len(), line));
            text.push_str(code);
            text.push('\n');
        }
        let mut found = Vec::new();
        let parent = self.module.rsplit_once("::").map_or("", |(it, _)| it);
        let grandparent = parent.rsplit_once("::").map_or("", |(it, _)| it);
        for (word, base) in
            [("crate::", ""), ("super::super::", grandparent), ("super::", parent), ("self::", &self.module)]
        {
            for (at, _) in text.match_indices(word) {
                // Part of a longer path or name, which another word stands for.
                if text[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_' || it == ':') {
                    continue;
                }
                let line = starts.iter().rev().find(|(start, _)| *start <= at).map_or(1, |(_, line)| *line);
                let mut paths = Vec::new();
                tree(&text[at + word.len()..], base, &mut paths);
                found.extend(paths.into_iter().map(|it| (line, it)));
            }
        }
        found
    }
}

/// Whether a line counts as code.
pub(super) fn counts(text: &str) -> bool {
    !text.trim().is_empty()
}

/// Marks `#[cfg(test)]` items: a declaration, or a block that ends with `}` at the same depth.
fn test_lines(lines: &[String]) -> Vec<bool> {
    let mut marks = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let text = &lines[at];
        if text.trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let indent = &text[..text.len() - text.trim_start().len()];
        let closing = format!("{indent}}}");
        let opens = lines[at..].iter().position(|it| it.ends_with('{') || it.ends_with(';'));
        let Some(opens) = opens.map(|it| at + it) else { break };
        let end = if lines[opens].ends_with(';') {
            opens
        } else {
            lines[opens..].iter().position(|it| *it == closing).map_or(lines.len() - 1, |it| opens + it)
        };
        marks[at..=end].fill(true);
        at = end + 1;
    }
    marks
}

/// Spells out `a::{b, c::{d, e}}` after `base`; returns what is left of the text.
fn tree<'a>(mut text: &'a str, base: &str, paths: &mut Vec<String>) -> &'a str {
    let mut path = base.to_owned();
    loop {
        text = text.trim_start();
        text = text.strip_prefix('*').unwrap_or(text);
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = tree(rest, &path, paths).trim_start();
                match rest.strip_prefix(',') {
                    Some(more) if more.trim_start().starts_with('}') => rest = more.trim_start(),
                    Some(more) => {
                        rest = more;
                        continue;
                    }
                    None => {}
                }
                return rest.strip_prefix('}').unwrap_or("");
            }
        }
        let end = text.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(text.len());
        if !path.is_empty() && end > 0 && &text[..end] != "self" {
            path.push_str("::");
        }
        if &text[..end] != "self" {
            path.push_str(&text[..end]);
        }
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if end > 0 => text = rest,
            _ => break,
        }
    }
    paths.push(path);
    // An alias is no path.
    match text.trim_start().strip_prefix("as ") {
        Some(rest) => {
            let rest = rest.trim_start();
            &rest[rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len())..]
        }
        None => text,
    }
}

#[test]
fn an_import_is_spelt_out() {
    let mut paths = Vec::new();
    tree("a::{self, b::{C, D as E}, f::*,\n g}; rest", "x", &mut paths);
    assert_eq!(paths, ["x::a", "x::a::b::C", "x::a::b::D", "x::a::f", "x::a::g"]);
}

#[test]
fn tests_are_told_from_code() {
    let text =
        "mod a;\n#[cfg(test)]\nmod b;\nfn c() {}\n#[cfg(test)]\nmod d {\n    fn e() {\n    }\n}\nfn f() {}";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let marked = test_lines(&lines);
    let code: Vec<_> =
        lines.iter().zip(marked).filter(|(_, test)| !test).map(|(it, _)| it.as_str()).collect();
    assert_eq!(code, ["mod a;", "fn c() {}", "fn f() {}"]);
}
