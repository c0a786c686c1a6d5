//! `headwater completion`: scripts that complete the command line in a shell, made from the same description of it that
//! parses it.

use crate::cli::Cli;
use crate::exit::Failure;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;

#[derive(Debug, Args)]
#[command(after_help = "\
Where a shell looks for it:
  bash  headwater completion bash > ~/.local/share/bash-completion/completions/headwater
  zsh   headwater completion zsh > \"${fpath[1]}/_headwater\"
  fish  headwater completion fish > ~/.config/fish/completions/headwater.fish")]
pub struct CompletionArgs {
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionArgs) -> Result<(), Failure> {
    Ok(std::io::stdout().lock().write_all(&script(args.shell))?)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "headwater", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for word in ["consume", "delete-records", "shift-by"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
