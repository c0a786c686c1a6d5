//! `headwater docs`: pages of the documentation that come from tables in the code. `cargo xtask check` compares them with
//! the committed ones.

use crate::config::options::{OPTIONS, OptionRow};
use crate::exit::Failure;
use clap::Subcommand;
use std::fmt::Write as _;
use std::io::Write as _;

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum DocsCommand {
    /// docs/operations.md
    Operations,
    /// docs/configuration.md
    Configuration,
}

/// Runs the command.
pub fn run(command: DocsCommand) -> Result<(), Failure> {
    let page = match command {
        DocsCommand::Operations => operations_page(),
        DocsCommand::Configuration => configuration_page(),
    };
    Ok(std::io::stdout().lock().write_all(page.as_bytes())?)
}

fn operations_page() -> String {
    let mut page = String::from(
        "# Operations\n\n\
         <!-- Generated from the tables of the protocols by `headwater docs operations`; edit those. -->\n\n\
         ## Kafka\n\n\
         What is not in this table is not served: ApiVersions does not name it, and a request for it closes the \
         connection. *Versions* are ours, *Reference* those of Apache Kafka 4.4. *Access* is what an authorizer will be \
         asked; there is none yet. *Tier* 1 is needed by every common client, 2 by the full feature, 3 by few.\n\n",
    );
    page += &headwater_protocol_kafka::operations_page();
    page
}

fn configuration_page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Generated from server/src/config/options.rs by `headwater docs configuration`; edit the table there. -->\n\n\
         Every option can be set in four places. The first that sets it wins: the command line flag, the environment \
         variable, the TOML file (`--config FILE` or `HEADWATER_CONFIG`), the default. `headwater config show` prints \
         what holds and who says so; `headwater config check` is the same for scripts. An unknown key in the file is an \
         error.\n\n\
         Sizes are bytes, or numbers with `KiB`, `MiB`, `GiB`. An address that other machines can reach is refused \
         unless `insecure_no_auth` is set, because nobody has to authenticate yet.\n\n\
         | Key in the file | Flag | Environment | Default | What it does |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in OPTIONS {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        let (flag, env) = (row.flag(), row.env());
        let _ = writeln!(page, "| `{}` | `--{flag}` | `{env}` | {default} | {} |", row.key, row.help);
    }
    page += "\n## Topic defaults\n\n\
             `[topic.defaults]` takes these topic settings, and no other name; they hold for topics that do not set them \
             themselves. On the command line `--topic-default NAME=VALUE` may be repeated, in the environment \
             `HEADWATER_TOPIC_DEFAULTS` holds pairs with semicolons between them.\n\n";
    page += &headwater_protocol_kafka::topic_settings_page();
    page += "\n## What Kafka clients see of the broker\n\n\
             DescribeConfigs answers these for a broker.\n\n";
    page += &headwater_protocol_kafka::broker_settings_page();
    page += "\n## Example\n\nEvery option at its default.\n\n```toml\n";
    page += &example();
    page += "```\n";
    page
}

/// A file that sets everything to its default, so that it can be copied and changed.
fn example() -> String {
    let mut text = String::new();
    let mut table = "";
    let (flat, nested): (Vec<&OptionRow>, Vec<&OptionRow>) = OPTIONS.iter().partition(|row| !row.key.contains('.'));
    for row in flat.into_iter().chain(nested) {
        let (of, name) = row.key.split_once('.').unwrap_or(("", row.key));
        if of != table {
            table = of;
            let _ = writeln!(text, "\n[{table}]");
        }
        let is_plain = row.default.parse::<i64>().is_ok() || matches!(row.default, "true" | "false");
        let quote = if is_plain { "" } else { "\"" };
        let _ = writeln!(text, "{name} = {quote}{}{quote}", row.default);
    }
    text + "\n[topic.defaults]\nretention.ms = 604800000\n\"compression.type\" = \"producer\"\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, resolve};

    #[test]
    fn the_example_is_a_valid_file_that_changes_nothing() {
        let file = Some(("example.toml".to_owned(), example()));
        let effective = resolve(&Inputs { file, ..Inputs::default() }).unwrap();
        for row in OPTIONS {
            let value = effective.values.iter().find(|value| value.key == row.key).unwrap();
            assert_eq!(value.text, row.default, "{}", row.key);
            assert!(value.source.to_string().starts_with("example.toml:"), "{}", row.key);
        }
    }

    #[test]
    fn the_page_has_a_row_for_each_option() {
        let page = configuration_page();
        assert!(OPTIONS.iter().all(|row| page.contains(&format!("| `{}` | `--{}` |", row.key, row.flag()))));
    }
}
