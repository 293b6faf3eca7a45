//! What an extraction would do, said instead of done: `--dry-run`.

use std::fmt::Write as _;

use blob::core::Node;
use blob::core::extract::{Action, Planned, Surplus};
use serde::Serialize;

use crate::args::Format;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::ui::escape::{PathText, exact};
use crate::ui::json;
use crate::ui::size::{count, human};
use crate::ui::table::{Align, Cell, Table};

/// A plan.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Preview {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// The directory or file that would be written to; `-` is standard output.
    destination: String,
    /// Always true: nothing was done.
    dry_run: bool,
    /// What would be made.
    create_count: u64,
    /// What would be replaced.
    replace_count: u64,
    /// What is there and equal.
    keep_count: u64,
    /// What is there and equal, and would be given other permission bits.
    mode_count: u64,
    /// What is there and would be left alone.
    skip_count: u64,
    /// What differs, so that nothing would be written.
    refuse_count: u64,
    /// What would be deleted.
    delete_count: u64,
    /// Bytes of the files that would be written.
    write_size: u64,
    /// One for each path.
    actions: Vec<Step>,
}

/// What would be done about one path.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    /// `create`, `replace`, `keep`, `mode`, `skip`, `refuse` or `delete`.
    action: &'static str,
    #[serde(flatten)]
    path: PathText,
    /// Where it is or would be.
    target: String,
    /// Bytes.
    size: u64,
    #[serde(skip)]
    sign: char,
    #[serde(skip)]
    raw: Vec<u8>,
}

impl Preview {
    /// What would become of `planned` and of `surplus`.
    pub(super) fn new(reference: String, destination: String, planned: &[Planned], surplus: &[Surplus]) -> Self {
        let count = |wanted| planned.iter().filter(|planned| planned.action == wanted).count() as u64;
        let writes = |planned: &&Planned| matches!(planned.action, Action::Create | Action::Replace);
        let mut actions: Vec<Step> = planned.iter().map(step).collect();
        actions.extend(surplus.iter().map(|surplus| Step {
            action: "delete",
            path: PathText::new(&surplus.path),
            target: PathText::new(&[destination.as_bytes(), b"/", &surplus.path].concat()).path,
            size: 0,
            sign: '-',
            raw: if surplus.is_dir { [&surplus.path, &b"/"[..]].concat() } else { surplus.path.to_vec() },
        }));
        Self {
            r#ref: reference,
            destination,
            dry_run: true,
            create_count: count(Action::Create),
            replace_count: count(Action::Replace),
            keep_count: count(Action::Keep),
            mode_count: count(Action::SetMode),
            skip_count: count(Action::Skip),
            refuse_count: count(Action::Refuse),
            delete_count: surplus.len() as u64,
            write_size: planned.iter().filter(writes).map(|planned| planned.size).sum(),
            actions,
        }
    }

    /// What would be written to standard output.
    pub(super) fn streamed(reference: String, nodes: &[Node<'_>]) -> Self {
        let mut preview = Self::new(reference, "-".into(), &[], &[]);
        let (mut files, mut bytes) = (0, 0);
        for node in nodes.iter().filter(|node| !matches!(node, Node::Directory(_))) {
            let size = if let Node::File(file) = node { file.original_size() } else { 0 };
            (files, bytes) = (files + 1, bytes + size);
            preview.actions.push(Step {
                action: "create",
                path: PathText::new(node.path()),
                target: "-".into(),
                size,
                sign: '+',
                raw: node.path().to_vec(),
            });
        }
        (preview.create_count, preview.write_size) = (files, bytes);
        preview
    }

    /// Writes the plan; what would be refused is a failure, as it would be.
    pub(super) async fn report(&self, session: &Session) -> Result<(), Failure> {
        let text = match session.options.output {
            Format::Json => json::document(self),
            Format::Jsonl => self.actions.iter().map(json::line).collect(),
            Format::Text => self.text(session.options.quiet),
            output @ (Format::Plain | Format::Csv | Format::Table) => self.table().render(output),
        };
        session.print(text).await?;
        if self.refuse_count > 0 {
            let differ = if self.refuse_count == 1 { "exists already and differs" } else { "exist already and differ" };
            let message = format!("{} {differ} from the archive", count(self.refuse_count, "file"));
            return Err(Failure::new(Kind::General, message).with_hint("pass --overwrite to replace them"));
        }
        Ok(())
    }

    fn text(&self, quiet: bool) -> String {
        let done = self.actions.iter().filter(|step| step.sign != '=');
        let mut text = String::new();
        for step in done {
            let _ = writeln!(text, "{} {}", step.sign, exact(&step.raw));
        }
        if !quiet {
            let parts = [
                (self.create_count, "create"),
                (self.replace_count, "replace"),
                (self.delete_count, "delete"),
                (self.mode_count, "set the mode of"),
                (self.keep_count, "keep"),
                (self.skip_count, "skip"),
                (self.refuse_count, "refuse"),
            ];
            let told: Vec<String> = parts
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{what} {number}"))
                .collect();
            let told = if told.is_empty() { "do nothing".into() } else { told.join(", ") };
            let _ = writeln!(text, "Would {told}; {} to write", human(self.write_size));
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(vec![("ACTION", Align::Left), ("SIZE", Align::Right), ("PATH", Align::Left)]);
        for step in &self.actions {
            table.row(vec![Cell::new(step.action), Cell::new(step.size.to_string()), Cell::new(exact(&step.raw))]);
        }
        table
    }
}

fn step(planned: &Planned) -> Step {
    let (action, sign) = match planned.action {
        Action::Create => ("create", '+'),
        Action::Replace => ("replace", '~'),
        Action::Keep => ("keep", '='),
        Action::SetMode => ("mode", '*'),
        Action::Skip => ("skip", '='),
        _ => ("refuse", '!'),
    };
    Step {
        action,
        path: PathText::new(&planned.path),
        target: planned.target.display().to_string(),
        size: planned.size,
        sign,
        raw: planned.path.to_vec(),
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Preview>("plan"), line::<Step>("plan-line")]
}
