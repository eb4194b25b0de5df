//! `linemint completions` and `linemint man`: what a package holds beside the binary.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use crate::error::{Chain, ExitStatus};

/// The configuration with every key, each told of in the comment above it.
const EVERY_KEY: &str = include_str!("../../config/linemint.toml");

/// Prints completions for a shell, to be put where it looks for them.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

/// Writes the manual's pages: one for each command, and one for the configuration file.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where to; made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Prints completions of `command`.
pub(super) fn completions(args: &Completions, mut command: Command) -> ExitStatus {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "linemint", &mut script);
    match io::stdout().write_all(&script) {
        Ok(()) => ExitStatus::Done,
        Err(_) => ExitStatus::Io,
    }
}

/// Writes the pages of `command` and its subcommands.
pub(super) fn man(args: &ManArgs, command: Command) -> ExitStatus {
    match pages(&args.dir, command) {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            // Nobody is left to be told if stderr is gone.
            let _ = writeln!(
                io::stderr(),
                "error: failed to write the pages into {}: {}",
                args.dir.display(),
                Chain(&error)
            );
            ExitStatus::Io
        }
    }
}

fn pages(dir: &Path, command: Command) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(dir, &command)?;
    let mut file = std::fs::File::create(dir.join("linemint.toml.5"))?;
    configuration(EVERY_KEY).to_writer(&mut file)
}

/// A page for a command, and for those below it: `linemint device show` is `linemint-device-show(1)`.
fn page(dir: &Path, command: &Command) -> io::Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        page(dir, below)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone())
        .title(name.clone())
        .manual("linemint")
        .source(concat!("linemint ", env!("CARGO_PKG_VERSION")));
    let mut file = std::fs::File::create(dir.join(format!("{name}.1")))?;
    man.render(&mut file)
}

/// The page of the configuration file, from the commented file itself: so that no key is left out.
fn configuration(text: &str) -> Roff {
    let mut page = Roff::new();
    let title = ["linemint.toml", "5", "", concat!("linemint ", env!("CARGO_PKG_VERSION")), "linemint"];
    page.control("TH", title);
    page.control("SH", ["NAME"]);
    page.text([roman("linemint.toml - the configuration of a line station")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([italic("/etc/linemint/linemint.toml")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut said: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.starts_with("# --") {
            continue;
        }
        match (line.strip_prefix("# "), line.trim_start().starts_with('[')) {
            (Some(words), _) => said.push(words),
            (None, true) => {
                paragraph(&mut page, &mut said);
                page.control("SH", [line]);
            }
            // A blank line, or a comment's own.
            _ if line.trim_matches('#').trim().is_empty() => paragraph(&mut page, &mut said),
            _ => {
                page.control("TP", []);
                page.text([bold(line.trim_start_matches('#'))]);
                let words = sentence(&mut said);
                page.text(if words.is_empty() { vec![roman(" ")] } else { vec![roman(words)] });
            }
        }
    }
    paragraph(&mut page, &mut said);
    page.control("SH", ["SEE ALSO"]);
    let see: [Inline; 4] = [bold("linemint"), roman("(1), "), bold("linemint-check-config"), roman("(1)")];
    page.text(see);
    page
}

fn paragraph(page: &mut Roff, said: &mut Vec<&str>) {
    let words = sentence(said);
    if !words.is_empty() {
        page.control("PP", []);
        page.text([roman(words)]);
    }
}

fn sentence(said: &mut Vec<&str>) -> String {
    std::mem::take(said).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn command() -> Command {
        crate::cli::Cli::command()
    }

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(man(&ManArgs { dir: dir.path().join("man1") }, command()), ExitStatus::Done);
        let names: Vec<String> = std::fs::read_dir(dir.path().join("man1"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        for wanted in [
            "linemint.1",
            "linemint-run.1",
            "linemint-device-show.1",
            "linemint-ca-init.1",
            "linemint.toml.5",
        ] {
            assert!(names.iter().any(|it| it == wanted), "{wanted} is not among {names:?}");
        }
        let mut whole = command();
        whole.build();
        assert!(names.len() > whole.get_subcommands().count(), "{names:?}");
        let run = std::fs::read_to_string(dir.path().join("man1/linemint-run.1")).unwrap();
        assert!(run.contains(".TH linemint-run 1") && run.contains("\\-\\-config"), "{run}");
    }

    #[test]
    fn the_page_of_the_configuration_tells_of_every_key() {
        let page = configuration(EVERY_KEY).render();
        let keys = EVERY_KEY.lines().filter_map(|it| it.trim_start_matches('#').split_once(" = "));
        let mut count = 0;
        for (key, _) in keys.filter(|it| it.0.chars().all(|it| it.is_ascii_lowercase() || it == '_')) {
            assert!(page.contains(&format!("\\fB{key} = ")), "{key} is not told of");
            count += 1;
        }
        assert!(count > 40, "{count}");
        assert!(page.contains(".SH [station]"), "{page}");
    }

    #[test]
    fn completions_know_the_commands() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut command(), "linemint", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("check-config") && script.contains("backup"));
    }
}
