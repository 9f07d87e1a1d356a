//! The command line. `serve` is the centre; everything else but `check` talks to a centre's API.

mod client;
mod ladder;
mod print;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use self::client::Client;
use crate::config::Overrides;

/// A contact-centre switch whose cords are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "cordboard", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// How to reach a centre.
#[derive(Debug, Clone, Args)]
struct Reach {
    /// The centre's admin API.
    #[arg(
        long,
        env = "CORDBOARD_API",
        default_value = "http://127.0.0.1:8080",
        global = true,
        value_name = "URL"
    )]
    api: String,
    /// A token that the configuration knows by its SHA-256.
    #[arg(long, env = "CORDBOARD_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// A file with the token in it.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON as the API gives it.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a centre until SIGTERM: then no new calls, live ones finish, and it ends. A second SIGTERM clears them and ends it.
    Serve {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// Where components are looked for, instead of the configuration's `plugin_dir`.
        #[arg(long, env = "CORDBOARD_PLUGINS_DIR", value_name = "FOLDER")]
        plugin_dir: Option<PathBuf>,
        /// Where journal, records, recordings and caches are, instead of the configuration's `data`.
        #[arg(long, env = "CORDBOARD_DATA", value_name = "FOLDER")]
        data: Option<PathBuf>,
        /// When the journal is damaged: go on from the rows before the damage. Places given later are forgotten.
        #[arg(long)]
        journal_keep_whole: bool,
    },
    /// Check a configuration and its components; names file and line, key, and what was expected.
    Check {
        /// The configuration.
        file: PathBuf,
        /// Where components are looked for, instead of the configuration's `plugin_dir`.
        #[arg(long, env = "CORDBOARD_PLUGINS_DIR", value_name = "FOLDER")]
        plugin_dir: Option<PathBuf>,
    },
    /// Have a centre read its configuration anew, without dropping calls.
    Reload {
        #[command(flatten)]
        reach: Reach,
    },
    /// Have a centre refuse new calls from now on.
    Drain {
        #[command(flatten)]
        reach: Reach,
    },
    /// Live calls.
    Calls {
        #[command(flatten)]
        reach: Reach,
    },
    /// A call's timeline, live or ended; or its SIP.
    Call {
        /// The interaction's identifier (26 letters), as `calls` and `records list` show it.
        id: String,
        /// Go on as it happens, until the call ends.
        #[arg(long, short)]
        follow: bool,
        /// End the call.
        #[arg(long, conflicts_with = "follow")]
        clear: bool,
        /// The SIP of its legs: a ladder, and every message. Takes a Call-ID too. The node must keep SIP (`trace.sip_keep_s`).
        #[arg(long, conflicts_with_all = ["follow", "clear"])]
        sip: bool,
        /// The same as a capture file, for tshark and others.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "clear", "sip"])]
        pcap: Option<PathBuf>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Agents with their states.
    Agents {
        #[command(flatten)]
        reach: Reach,
    },
    /// Change an agent's state.
    Agent {
        /// What.
        #[command(subcommand)]
        action: AgentAction,
        #[command(flatten)]
        reach: Reach,
    },
    /// Queues with who waits in them.
    Queues {
        #[command(flatten)]
        reach: Reach,
    },
    /// Trunks with their calls, registrations and destinations.
    Trunks {
        #[command(flatten)]
        reach: Reach,
    },
    /// Senders that are shut out for a while: scanners, guessers, floods.
    Bans {
        #[command(flatten)]
        reach: Reach,
    },
    /// Let a sender in again.
    Unban {
        /// The address, as `bans` shows it.
        source: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Detail records of calls that have ended.
    Records {
        /// What.
        #[command(subcommand)]
        action: RecordsAction,
        #[command(flatten)]
        reach: Reach,
    },
    /// Plugins in service.
    Plugin {
        /// What.
        #[command(subcommand)]
        action: PluginAction,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Debug, Subcommand)]
enum AgentAction {
    /// Log in, ready for calls.
    Login {
        #[command(flatten)]
        who: Who,
        /// Not ready for calls yet.
        #[arg(long)]
        not_ready: bool,
    },
    /// Log out; a call that is up goes on, and the log-out follows it.
    Logout {
        #[command(flatten)]
        who: Who,
    },
    /// Be ready for calls.
    Ready {
        #[command(flatten)]
        who: Who,
    },
    /// Take no calls; during a call, when it is over.
    NotReady {
        #[command(flatten)]
        who: Who,
        /// Why, for the records.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct Who {
    /// The agent's name.
    name: String,
    /// Whose agent, when two tenants have one of that name.
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RecordsAction {
    /// The newest ones.
    List {
        #[command(flatten)]
        filter: RecordFilter,
    },
    /// All that match, to standard output.
    Export {
        /// `csv`, or `jsonl` for whole records with offers and timeline.
        #[arg(long, default_value = "csv", value_parser = ["csv", "jsonl"])]
        format: String,
        #[command(flatten)]
        filter: RecordFilter,
    },
}

#[derive(Debug, Args)]
struct RecordFilter {
    /// Of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// From this number.
    #[arg(long)]
    caller: Option<String>,
    /// To this number.
    #[arg(long)]
    called: Option<String>,
    /// Last in this workgroup.
    #[arg(long)]
    workgroup: Option<String>,
    /// Last with this agent.
    #[arg(long)]
    agent: Option<String>,
    /// Ended at or after, Unix milliseconds.
    #[arg(long)]
    since_ms: Option<i64>,
    /// Ended before, Unix milliseconds.
    #[arg(long)]
    until_ms: Option<i64>,
    /// At most so many.
    #[arg(long)]
    limit: Option<u32>,
}

impl RecordFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("tenant", &self.tenant),
            ("caller", &self.caller),
            ("called", &self.called),
            ("workgroup", &self.workgroup),
            ("agent", &self.agent),
        ];
        let mut query: Vec<_> = texts.into_iter().filter_map(|(k, v)| Some((k, v.clone()?))).collect();
        query.extend(self.since_ms.map(|v| ("since_ms", v.to_string())));
        query.extend(self.until_ms.map(|v| ("until_ms", v.to_string())));
        query.extend(self.limit.map(|v| ("limit", v.to_string())));
        query
    }
}

#[derive(Debug, Subcommand)]
enum PluginAction {
    /// What is in service, with its counters.
    List,
    /// Check a component and put it into service: new calls take it, live ones end on theirs.
    Load {
        /// The component.
        file: PathBuf,
        /// The plugin of the configuration; without it the file's name.
        #[arg(long)]
        name: Option<String>,
    },
    /// Go back to the version before.
    RollBack {
        /// The plugin of the configuration.
        name: String,
    },
    /// Events that adapters have given up.
    DeadLetters {
        /// Forget this one.
        #[arg(long, value_name = "ID")]
        forget: Option<i64>,
    },
}

/// Runs the command line; the exit code is 0 for done, 1 for failed, 2 for asked wrongly.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve { config, plugin_dir, data, journal_keep_whole } => {
            serve::serve(&config, Overrides { plugin_dir, data }, journal_keep_whole)
        }
        Command::Check { file, plugin_dir } => serve::check(&file, &Overrides { plugin_dir, data: None }),
        other => ask(other),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cordboard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ask(command: Command) -> anyhow::Result<()> {
    // As every other filter: `cordboard call ID | head` ends quietly when `head` has seen enough.
    // SAFETY: called before any thread is started; the default action needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(talk(command))
}

async fn talk(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve { .. } | Command::Check { .. } => Ok(()),
        Command::Reload { reach } => {
            let client = Client::new(&reach)?;
            let answer = client.post("/v1/reload", None).await?;
            print::reloaded(&answer, reach.json)
        }
        Command::Drain { reach } => {
            let answer = Client::new(&reach)?.post("/v1/drain", None).await?;
            print::object(&answer, reach.json)
        }
        Command::Calls { reach } => {
            print::calls(&Client::new(&reach)?.get("/v1/calls", &[]).await?, reach.json)
        }
        Command::Call { id, clear: true, reach, .. } => {
            Client::new(&reach)?.post(&format!("/v1/calls/{id}/clear"), None).await?;
            Ok(())
        }
        Command::Call { id, follow: true, reach, .. } => {
            let json = reach.json;
            Client::new(&reach)?
                .stream(&format!("/v1/calls/{id}/events"), |event, data| print::live(event, data, json))
                .await
        }
        Command::Call { id, pcap: Some(file), reach, .. } => {
            let path = format!("/v1/calls/{}/pcap", client::encode(&id));
            let client = Client::new(&reach)?;
            let capture = client.bytes(&path).await?;
            std::fs::write(&file, &capture)
                .map_err(|e| anyhow::anyhow!("{} cannot be written: {e}", file.display()))
        }
        Command::Call { id, sip: true, reach, .. } => {
            let path = format!("/v1/calls/{}/sip", client::encode(&id));
            let answer = Client::new(&reach)?.get(&path, &[]).await?;
            if reach.json {
                return print::object(&answer, true);
            }
            print!("{}", ladder::ladder(&answer));
            Ok(())
        }
        Command::Call { id, reach, .. } => {
            print::call(&Client::new(&reach)?.get(&format!("/v1/calls/{id}"), &[]).await?, reach.json)
        }
        Command::Agents { reach } => {
            print::agents(&Client::new(&reach)?.get("/v1/agents", &[]).await?, reach.json)
        }
        Command::Queues { reach } => {
            print::queues(&Client::new(&reach)?.get("/v1/queues", &[]).await?, reach.json)
        }
        Command::Trunks { reach } => {
            print::trunks(&Client::new(&reach)?.get("/v1/trunks", &[]).await?, reach.json)
        }
        Command::Agent { action, reach } => agent(action, &reach).await,
        Command::Records { action: RecordsAction::List { filter }, reach } => {
            print::records(&Client::new(&reach)?.get("/v1/records", &filter.query()).await?, reach.json)
        }
        Command::Records { action: RecordsAction::Export { format, filter }, reach } => {
            let mut query = filter.query();
            query.push(("format", format));
            Client::new(&reach)?.copy("/v1/records/export", &query).await
        }
        Command::Bans { reach } => print::bans(&Client::new(&reach)?.get("/v1/bans", &[]).await?, reach.json),
        Command::Unban { source, reach } => {
            let address = source.split('/').next().unwrap_or_default();
            Client::new(&reach)?.delete(&format!("/v1/bans/{address}")).await?;
            Ok(())
        }
        Command::Plugin { action, reach } => plugin(action, &reach).await,
    }
}

async fn agent(action: AgentAction, reach: &Reach) -> anyhow::Result<()> {
    let client = Client::new(reach)?;
    let (who, verb, body) = match action {
        AgentAction::Login { who, not_ready } => (who, "login", json!({ "ready": !not_ready })),
        AgentAction::Logout { who } => (who, "logout", json!({})),
        AgentAction::Ready { who } => (who, "ready", json!({})),
        AgentAction::NotReady { who, reason } => (who, "not-ready", json!({ "reason": reason })),
    };
    let tenant = match who.tenant {
        Some(tenant) => tenant,
        None => {
            let agents = client.get("/v1/agents", &[]).await?;
            let all = agents["items"].as_array().cloned().unwrap_or_default();
            let of: Vec<&Value> = all.iter().filter(|a| a["agent"] == *who.name).collect();
            match &of[..] {
                [one] => one["tenant"].as_str().unwrap_or_default().to_owned(),
                [] => {
                    let names = all.iter().filter_map(|a| a["agent"].as_str());
                    anyhow::bail!(
                        "there is no agent `{}`{}",
                        who.name,
                        crate::config::suggest(&who.name, names)
                    );
                }
                _ => anyhow::bail!("two tenants have an agent `{}`: say which with --tenant", who.name),
            }
        }
    };
    client.post(&format!("/v1/agents/{tenant}/{}/{verb}", who.name), Some(&body)).await?;
    if !reach.json {
        println!("{}: {verb}", who.name);
    }
    Ok(())
}

async fn plugin(action: PluginAction, reach: &Reach) -> anyhow::Result<()> {
    let client = Client::new(reach)?;
    match action {
        PluginAction::List => print::plugins(&client.get("/v1/plugins", &[]).await?, reach.json),
        PluginAction::Load { file, name } => {
            let bytes = std::fs::read(&file)
                .map_err(|e| anyhow::anyhow!("{} cannot be read: {e}", file.display()))?;
            let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default().replace('_', "-");
            let name = name.unwrap_or(stem);
            let answer = client.put(&format!("/v1/plugins/{name}"), bytes).await?;
            if reach.json {
                return print::object(&answer, true);
            }
            println!("{name}: {} is in service", answer["digest"].as_str().unwrap_or_default());
            Ok(())
        }
        PluginAction::RollBack { name } => {
            let answer = client.post(&format!("/v1/plugins/{name}/roll-back"), None).await?;
            print::object(&answer, reach.json)
        }
        PluginAction::DeadLetters { forget: Some(id) } => {
            client.delete(&format!("/v1/dead-letters/{id}")).await?;
            Ok(())
        }
        PluginAction::DeadLetters { forget: None } => {
            print::dead_letters(&client.get("/v1/dead-letters", &[]).await?, reach.json)
        }
    }
}
