//! Trunkline: a registry of SIP trunks and the router that reads it, in one process.
//!
//! This crate only wires: settings, the rooms of the house, and the way they start and stop.

mod account;
mod bridge;
mod certificates;
mod desk;
mod explain;
mod facts;
mod keeper;
mod live;
mod logs;
mod merit;
mod metrics;
mod prober;
mod recent;
mod recording;
mod request;
mod router;
mod serve;
mod settings;
mod story;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A registry of SIP trunks and the router that reads it
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the registry and the router
    Serve(settings::ServeFlags),
}

/// The settings cannot be used.
const EXIT_SETTINGS: u8 = 2;
/// It did not start, or ended by a failure.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let Command::Serve(flags) = Cli::parse().command;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let settings = match settings::load(&flags, variables) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("trunkline: {error}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    logs::start(&settings);
    match serve::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkline: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
