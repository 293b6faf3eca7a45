//! Running contenders in turns: wall time, processor time, peak memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::process::shown;

/// How often each contender runs.
const ROUNDS: usize = 5;
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(10);
/// Ticks of `/proc/*/stat` per second, the same on every Linux.
const TICKS: f64 = 100.0;

/// One program that takes part.
pub(super) struct Contender<'b> {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// Makes the command; called before each run.
    pub(super) command: Box<dyn Fn() -> Command + 'b>,
    /// What it writes; removed before each run.
    pub(super) outputs: Vec<PathBuf>,
}

/// The runs of one contender.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Runs {
    pub(super) name: &'static str,
    /// Seconds, sorted.
    pub(super) wall: Vec<f64>,
    /// Median of the processor seconds.
    pub(super) cpu: f64,
    /// The largest peak of all runs, KiB; processes of a pipe are added up.
    pub(super) peak: u64,
    /// As it would be typed.
    pub(super) command: String,
}

impl Runs {
    /// Median of the wall times, seconds.
    pub(super) fn median(&self) -> f64 {
        median(&self.wall)
    }
}

/// Runs everybody in turns, after one run each that does not count.
pub(super) fn in_turns(contenders: &[Contender<'_>]) -> Result<Vec<Runs>, String> {
    let mut results: Vec<Runs> = contenders
        .iter()
        .map(|c| Runs { name: c.name, wall: vec![], cpu: 0.0, peak: 0, command: typed(&(c.command)()) })
        .collect();
    let mut cpu = vec![Vec::new(); contenders.len()];
    for round in 0..=ROUNDS {
        for (i, contender) in contenders.iter().enumerate() {
            contender.outputs.iter().try_for_each(|path| remove(path))?;
            let run = measure((contender.command)())?;
            eprintln!("   {round} {:<24} {:>8.3} s {:>7} KiB", contender.name, run.wall, run.peak);
            if round > 0 {
                results[i].wall.push(run.wall);
                results[i].peak = results[i].peak.max(run.peak);
                cpu[i].push(run.cpu);
            }
        }
    }
    for (result, mut cpu) in results.iter_mut().zip(cpu) {
        result.wall.sort_by(f64::total_cmp);
        cpu.sort_by(f64::total_cmp);
        result.cpu = median(&cpu);
    }
    Ok(results)
}

/// One run.
pub(super) struct Run {
    /// Whether it ended well.
    pub(super) success: bool,
    /// Seconds.
    pub(super) wall: f64,
    /// Processor seconds.
    pub(super) cpu: f64,
    /// KiB.
    pub(super) peak: u64,
}

/// A run that has to end well.
fn measure(command: Command) -> Result<Run, String> {
    let name = shown(&command);
    let run = attempt(command)?;
    if run.success { Ok(run) } else { Err(format!("{name} failed")) }
}

/// A run that may fail.
pub(super) fn attempt(mut command: Command) -> Result<Run, String> {
    let name = shown(&command);
    let cpu_before = cpu_of_children()?;
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name} could not be started: {error}"))?;
    let pid = child.id();
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (status, wall) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(peak_of_tree(pid), Ordering::Relaxed);
                std::thread::sleep(SAMPLE);
            }
        });
        let status = child.wait();
        let wall = begin.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (status, wall)
    });
    let status = status.map_err(|error| format!("waiting for {name}: {error}"))?;
    if !status.success() {
        eprintln!("   {name} ended with {status}");
    }
    Ok(Run { success: status.success(), wall, cpu: cpu_of_children()? - cpu_before, peak: peak.into_inner() })
}

/// Processor seconds of all children that were waited for, and theirs.
fn cpu_of_children() -> Result<f64, String> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(|error| format!("/proc/self/stat: {error}"))?;
    cpu_from(&stat).ok_or_else(|| format!("/proc/self/stat has an unknown form: {stat}"))
}

/// Fields 16 and 17, counted behind the name, which may contain anything.
fn cpu_from(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(13);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// Peak resident memory of a process and its descendants, KiB.
fn peak_of_tree(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    own + children.map(peak_of_tree).sum::<u64>()
}

pub(super) fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) fn remove(path: &Path) -> Result<(), String> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}

/// A shell line without the shell, a program without its folder.
fn typed(command: &Command) -> String {
    let text = shown(command);
    if let Some(line) = text.strip_prefix("bash -o pipefail -c ") {
        return line.to_owned();
    }
    let (program, rest) = text.split_once(' ').unwrap_or((&text, ""));
    format!("{} {rest}", program.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 250 50 20 0";
        assert_eq!(cpu_from(stat), Some(3.0));
        assert_eq!(cpu_from("nonsense"), None);
    }

    #[test]
    fn contenders_run_in_turns_with_their_outputs_removed() {
        let scratch = Scratch::new(&std::env::temp_dir(), "measure-test").expect("a temporary directory");
        let log = scratch.path().join("log");
        let contender = |name: &'static str| {
            let (output, log) = (scratch.path().join(name), log.clone());
            let outputs = vec![output.clone()];
            let command = move || {
                let mut command = Command::new("bash");
                let line = format!(
                    "test ! -e {o} && mkdir {o} && echo {name} >> {l}",
                    o = output.display(),
                    l = log.display()
                );
                command.args(["-o", "pipefail", "-c", &line]);
                command
            };
            Contender { name, command: Box::new(command), outputs }
        };
        let results = in_turns(&[contender("a"), contender("b")]).expect("both run");
        let turns = fs::read_to_string(&log).expect("a log").replace('\n', "");
        assert_eq!(turns, "ab".repeat(ROUNDS + 1));
        assert_eq!(results.iter().map(|r| r.wall.len()).collect::<Vec<_>>(), [ROUNDS, ROUNDS]);
        assert!(results[0].command.starts_with("test ! -e"));
        assert!(results[0].wall.is_sorted());
    }

    #[test]
    fn a_failing_contender_is_an_error() {
        let command = || {
            let mut command = Command::new("bash");
            command.args(["-o", "pipefail", "-c", "false | true"]);
            command
        };
        let failing = Contender { name: "x", command: Box::new(command), outputs: vec![] };
        assert!(in_turns(&[failing]).is_err());
    }

    #[test]
    fn memory_of_a_process_and_its_children_is_seen() {
        assert!(peak_of_tree(std::process::id()) > 100, "this very process has some");
        assert_eq!(peak_of_tree(0), 0);
    }
}
