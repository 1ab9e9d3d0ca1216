//! Checks and test set-up of the workspace: `cargo xtask help` lists the commands.

mod deps;
mod fuzz;
mod hostile;
mod liveness;
mod load;
mod probes;
mod run;
mod server;
mod size;
mod test;
mod transports;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test                   installs what the tests need and runs all of them
cargo xtask check-deps             dependency directions between the crates
cargo xtask check-size             lengths of files and functions
cargo xtask deny                   licences, bans and sources of dependencies
cargo xtask fuzz [SECONDS|--long] [TARGET]...
                                   fuzzes each target, or those named, for a minute unless told; ten with --long
cargo xtask hostile [SECONDS]      good calls beside floods, 30 seconds unless told
cargo xtask liveness               from cause to no more calls, for each proof of life, beside its bound
cargo xtask probes [TRUNKS [SECONDS]]   CPU of probing at 30 s, 10000 trunks for 60 seconds unless told
cargo xtask transports [CALLS]     CPU per call by UDP, TCP and TLS, beside Kamailio's where it is installed
cargo xtask load [RATE [SECONDS]]  drives the release build with the load rig, 8000 calls a second for 60 s";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["check-deps"] => deps::check(),
        ["check-size"] => size::check(),
        ["deny"] => test::deny(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["hostile", rest @ ..] => hostile::run(rest),
        ["liveness"] => liveness::run(),
        ["load", rest @ ..] => load::run(rest),
        ["probes", rest @ ..] => probes::run(rest),
        ["transports", rest @ ..] => transports::run(rest),
        ["test"] => test::run(),
        ["help" | "--help"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(anyhow::anyhow!("unknown command\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
