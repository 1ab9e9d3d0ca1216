//! `cargo xtask load`: the release build under the load rig, where that is there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{binary, build_release, cargo, root, step, target_dir};

const HTTP: &str = "127.0.0.1:18080";
const SIP: &str = "127.0.0.1:15060";

/// Calls at a fixed rate through the release build to four answering ports; prints what came of it.
pub fn run(args: &[&str]) -> Result<()> {
    let number =
        |at: usize, default: u64| args.get(at).map_or(Ok(default), |text| text.parse()).context("expected a number");
    let (rate, seconds) = (number(0, 8000)?, number(1, 60)?);
    build_release()?;
    let generator = generator()?;
    let data = target_dir().join("load-data");
    let _ = std::fs::remove_dir_all(&data);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (server_cpus, load_cpus) = if cores >= 4 { ("2,3", "0,1") } else { ("0-1", "0-1") };
    let mut server = Server::start(server_cpus, &data)?;
    for port in 7001..=7004 {
        let url = format!("http://{HTTP}/trunks/port-{port}");
        let body = format!("{{\"sip_uri\":\"sip:127.0.0.1:{port}\",\"heartbeat_seconds\":0}}");
        let put = Command::new("curl").args(["-sf", "-o", "/dev/null", "-X", "PUT", &url, "-d", &body]).status()?;
        if !put.success() {
            bail!("cannot register a trunk at {url}");
        }
    }
    let pid = server.0.id().to_string();
    println!("{} calls at {rate} a second …", rate * seconds);
    let paced = measure(
        &generator,
        load_cpus,
        &pid,
        &[
            "--calls",
            &(rate * seconds).to_string(),
            "--rate",
            &rate.to_string(),
            "--concurrency",
            "20000",
            "--max-s",
            &(seconds + 60).to_string(),
        ],
    )?;
    report(&format!("{rate} calls/s for {seconds} s"), &paced);
    let full = measure(&generator, load_cpus, &pid, &["--calls", "200000", "--concurrency", "300"])?;
    report("at saturation, 300 calls in flight", &full);
    server.0.kill()?;
    let _ = server.0.wait();
    if paced["failed"] != 0 || paced["retrans"] != 0 {
        bail!("{} calls failed and {} messages were repeated", paced["failed"], paced["retrans"]);
    }
    Ok(())
}

/// Builds the rig's generator in a place of our own: the rig itself may be read-only.
fn generator() -> Result<PathBuf> {
    let rig = std::env::var_os("LOAD_RIG").map_or_else(|| root().join("../shared/rig"), PathBuf::from);
    let manifest = rig.join("sipload/Cargo.toml");
    if !manifest.is_file() {
        bail!("no load rig at {}; name its place by LOAD_RIG", rig.display());
    }
    let target = target_dir().join("load-rig");
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(&manifest).arg("--target-dir").arg(&target);
    step("build the load generator", &mut build)?;
    Ok(target.join("release/sipload"))
}

struct Server(Child);

impl Server {
    fn start(cpus: &str, data: &Path) -> Result<Server> {
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]).arg(binary()).args([
            "serve",
            "--http",
            HTTP,
            "--sip",
            &format!("udp:{SIP}"),
            "--data",
        ]);
        let child = command.arg(data).env("TRUNKLINE_SIP_THREADS", "2").stderr(Stdio::null()).spawn()?;
        let server = Server(child);
        let until = Instant::now() + Duration::from_secs(10);
        while !Command::new("curl")
            .args(["-sf", "-o", "/dev/null", &format!("http://{HTTP}/readyz")])
            .status()?
            .success()
        {
            if Instant::now() > until {
                bail!("the release build does not come up on {HTTP}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after a run that ended well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(generator: &Path, cpus: &str, pid: &str, args: &[&str]) -> Result<Value> {
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(generator).args(["--target", SIP, "--pid", pid]).args(args);
    let output = command.output().context("the load generator")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    serde_json::from_str(line).context("the load generator's result")
}

fn report(what: &str, result: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!(
        "{what}: {:.0} calls/s, {} failed, {} repeated, {:.1} µs CPU per call, {:.2} cores, set-up p50 {:.0} µs p99 {:.0} µs",
        number(&result["cps"]),
        result["failed"],
        result["retrans"],
        number(&result["target"]["cpu_us_per_call"]),
        number(&result["target"]["cores"]),
        number(&result["setup"]["p50_us"]),
        number(&result["setup"]["p99_us"]),
    );
}
