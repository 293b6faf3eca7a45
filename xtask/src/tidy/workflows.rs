//! Workflows and actions of GitHub: what would let somebody else's code into a release.

use super::Finding;
use crate::workspace::Workspace;

/// Actions are pinned to a commit, scripts get values from outside through the environment only, workflows begin without
/// permissions, and composite actions use only inputs that they declare.
pub(super) fn safe(workspace: &Workspace) -> Vec<Finding> {
    let workflows = workspace.files(".github/", ".yml").map(|file| (file, true));
    let actions = workspace.files("actions/", ".yml").map(|file| (file, false));
    let mut findings = Vec::new();
    for ((path, text), is_workflow) in workflows.chain(actions) {
        if is_workflow && !text.lines().any(|line| line == "permissions: {}") {
            findings.push(Finding::new(
                path,
                1,
                "a workflow begins with `permissions: {}`, and each job names its own",
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(message) = pinned(line) {
                findings.push(Finding::new(path, number + 1, message));
            }
        }
        for (number, line) in script_lines(text) {
            if line.contains("${{") {
                let message = "a script takes values through `env`: an expression here is run as code";
                findings.push(Finding::new(path, number, message));
            }
        }
        for (number, input) in undeclared(text) {
            findings.push(Finding::new(path, number, format!("the input `{input}` is not declared")));
        }
    }
    findings
}

/// What is wrong with the action that a line uses.
fn pinned(line: &str) -> Option<String> {
    let used = line.trim_start().trim_start_matches("- ").strip_prefix("uses: ")?;
    if used.starts_with("./") {
        return None;
    }
    let (action, comment) = used.split_once(" # ").unwrap_or((used, ""));
    let commit = action.split_once('@').map_or("", |(_, commit)| commit);
    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit && comment.starts_with('v') {
        return None;
    }
    Some(format!("`{action}` is not pinned: name a commit, and its version in a comment `# v1.2.3`"))
}

/// The lines of `run:` scripts, with their numbers counted from 1.
fn script_lines(text: &str) -> Vec<(usize, &str)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = Vec::new();
    let mut block: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        if block.is_some_and(|depth| !line.trim().is_empty() && indent(line) <= depth) {
            block = None;
        }
        if block.is_some() {
            lines.push((number + 1, line));
        }
        let bare = line.trim_start().trim_start_matches("- ");
        if let Some(script) = bare.strip_prefix("run:") {
            lines.push((number + 1, script));
            block = Some(line.len() - bare.len());
        }
    }
    lines
}

/// Inputs that are used but not declared.
fn undeclared(text: &str) -> Vec<(usize, &str)> {
    let declared = |input: &str| {
        let mut lines = text.lines().skip_while(|line| line.trim() != "inputs:").skip(1);
        lines.any(|line| line.trim() == format!("{input}:"))
    };
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("inputs.").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
            if !declared(&rest[..end]) {
                missing.push((number + 1, &rest[..end]));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
permissions: {}
jobs:
  one:
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
      - uses: ./actions/setup
      - name: ${{ matrix.target }}
        run: |
          echo \"$NAME\"

          echo again
        env:
          NAME: ${{ github.ref_name }}
";

    fn lines(text: &str) -> Vec<usize> {
        let found = safe(&Workspace::of(&[(".github/workflows/a.yml", text)]));
        found.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn what_is_pinned_and_closed_passes() {
        assert_eq!(lines(GOOD), Vec::<usize>::new());
    }

    #[test]
    fn each_weakness_is_found_at_its_line() {
        for (from, to, line) in [
            ("permissions: {}", "permissions: write-all", 1),
            ("@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "@v4", 5),
            (" # v4.2.2", "", 5),
            ("echo again", "echo ${{ github.ref_name }}", 11),
            ("run: |", "run: echo ${{ github.ref_name }} |", 8),
            ("NAME: ${{ github.ref_name }}", "NAME: ${{ inputs.name }}", 13),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(lines(&GOOD.replace(from, to)), [line], "{to}");
        }
    }

    #[test]
    fn declared_inputs_may_be_used() {
        let action =
            "inputs:\n  name:\n    default: a\nruns:\n  env:\n    A: ${{ inputs.name }}${{ inputs.other-one }}\n";
        let found = safe(&Workspace::of(&[("actions/a/action.yml", action)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains("`other-one`"));
    }
}
