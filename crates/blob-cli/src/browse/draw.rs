//! The picture of a browser.

use blob::Archive;
use blob::core::path::Shown;
use blob::http::Traffic;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::preview::{LARGEST, Preview};
use super::rows::{Row, What};
use super::state::{Browser, Mode, about};
use crate::ui::size::{count, human};

/// What does not change while the browser runs.
#[derive(Clone, Debug)]
pub(super) struct Look {
    reference: String,
    digest: String,
    /// Who vouched, or that nobody did.
    signer: String,
    verified: bool,
    data_size: u64,
    colored: bool,
}

impl Look {
    pub(super) fn of(archive: &Archive, colored: bool) -> Self {
        let manifest = archive.manifest();
        let checks = manifest.report().map(|report| &report.checks);
        let signer = checks.map(|checks| {
            let found: Vec<String> = checks.iter().map(|check| Shown(check.finding.as_bytes()).to_string()).collect();
            format!("verified: {}", found.join("; "))
        });
        Self {
            reference: Shown(archive.location().to_string().as_bytes()).to_string(),
            digest: manifest.digest().to_string().chars().take("sha256:".len() + 12).collect(),
            verified: signer.is_some(),
            signer: signer.unwrap_or_else(|| "not verified".into()),
            data_size: manifest.data().size,
            colored,
        }
    }

    /// `style` where colours are wanted; emphasis stays without.
    fn paint(&self, style: Style) -> Style {
        if self.colored { style } else { Style { fg: None, bg: None, ..style } }
    }
}

/// What one drawing shows besides the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) look: &'a Look,
    pub(super) traffic: Traffic,
    pub(super) advance: Option<&'a str>,
}

/// Draws everything.
pub(super) fn draw(frame: &mut ratatui::Frame<'_>, browser: &mut Browser, seen: &Frame<'_>) {
    let [header, body, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(body);
    browser.page = usize::from(left.height.saturating_sub(2));
    frame.render_widget(head(seen.look), header);
    tree(frame, browser, seen.look, left);
    preview(frame, browser, seen.look, right);
    frame.render_widget(foot(browser, seen), footer);
    match &browser.mode {
        Mode::Search(prompt) => {
            let column = 1 + Line::raw(prompt.before()).width() as u16;
            frame.set_cursor_position((footer.x + column.min(footer.width.saturating_sub(1)), footer.y));
        }
        Mode::Copy { prompt, overwrite } => copy(frame, browser, prompt, *overwrite),
        Mode::Help => help(frame),
        Mode::Tree | Mode::Preview => {}
    }
}

fn head(look: &Look) -> Line<'static> {
    let trust = if look.verified { Color::Green } else { Color::Yellow };
    Line::from(vec![
        Span::styled(format!(" {} ", look.reference), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(" {}  ", look.digest)),
        Span::styled(look.signer.clone(), look.paint(Style::new().fg(trust))),
    ])
}

fn tree(frame: &mut ratatui::Frame<'_>, browser: &Browser, look: &Look, area: Rect) {
    let block = framed(" archive ", browser.mode != Mode::Preview);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let height = usize::from(inner.height);
    // The cursor stays in the middle, except near both ends.
    let top = browser.cursor.saturating_sub(height / 2).min(browser.rows.len().saturating_sub(height));
    let rows = browser.rows.as_slice().iter().enumerate().skip(top).take(height);
    let lines: Vec<Line<'_>> = rows
        .map(|(at, row)| {
            let line = entry(row, browser, look, usize::from(inner.width));
            if at == browser.cursor { line.patch_style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A row: mark, indentation, kind, name, and the size at the right edge.
fn entry(row: &Row, browser: &Browser, look: &Look, width: usize) -> Line<'static> {
    let mark = if browser.marked.contains(&row.path) { '*' } else { ' ' };
    let name = Shown(row.name()).to_string();
    let (sign, text, style) = match row.what {
        What::Directory { open } => {
            let style = Style::new().fg(Color::Blue).add_modifier(Modifier::BOLD);
            (if open { "▾ " } else { "▸ " }, format!("{name}/"), style)
        }
        What::File { executable: true } => ("  ", name, Style::new().fg(Color::Green)),
        What::File { executable: false } => ("  ", name, Style::new()),
        What::Symlink => ("  ", format!("{name} @"), Style::new().fg(Color::Cyan)),
        What::More(hidden) => ("  ", format!("… {hidden} more"), Style::new().add_modifier(Modifier::ITALIC)),
    };
    let size = if matches!(row.what, What::File { .. }) { human(row.size) } else { String::new() };
    let start = format!("{mark}{}{sign}", "  ".repeat(usize::from(row.depth).min(40)));
    let room = width.saturating_sub(Line::raw(start.as_str()).width() + size.len() + 2);
    let text = fitted(&text, room);
    let gap =
        width.saturating_sub(Line::raw(start.as_str()).width() + Line::raw(text.as_str()).width() + size.len() + 1);
    Line::from(vec![
        Span::raw(start),
        Span::styled(text, look.paint(style)),
        Span::raw(" ".repeat(gap)),
        Span::raw(size),
        Span::raw(" "),
    ])
}

/// `text` in at most `room` columns.
fn fitted(text: &str, room: usize) -> String {
    if Line::raw(text).width() <= room {
        return text.to_owned();
    }
    let mut cut = String::new();
    for character in text.chars() {
        let longer = format!("{cut}{character}…");
        if Line::raw(longer.as_str()).width() > room {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    cut
}

fn preview(frame: &mut ratatui::Frame<'_>, browser: &Browser, look: &Look, area: Rect) {
    let name = browser.row().map(|row| Shown(row.name()).to_string()).unwrap_or_default();
    let title = match &browser.preview {
        Preview::Content(content) => format!(" {name} ({}) ", content.title),
        _ => format!(" {name} "),
    };
    let mut block = framed(&title, browser.mode == Mode::Preview);
    if let (Some(row), Preview::Content(_)) = (browser.row(), &browser.preview) {
        let facts = about(&browser.index, row);
        if let [_, mode_and_time, sizes, ..] = facts.as_slice() {
            block = block.title_bottom(format!(" {sizes}  {mode_and_time} "));
        }
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let height = usize::from(inner.height);
    let shown = match &browser.preview {
        Preview::Content(content) => {
            let lines: Vec<Line<'_>> = content.lines.iter().skip(browser.scroll).take(height).cloned().collect();
            Paragraph::new(lines)
        }
        Preview::About(lines) => {
            let lines: Vec<Line<'_>> = lines.iter().skip(browser.scroll).take(height).cloned().map(Line::raw).collect();
            Paragraph::new(lines).wrap(Wrap { trim: false })
        }
        Preview::Loading => Paragraph::new("fetching …").alignment(Alignment::Center),
        Preview::Large(size) if *size <= LARGEST => {
            Paragraph::new(format!("{}: press p to fetch it", human(*size))).alignment(Alignment::Center)
        }
        Preview::Large(size) => {
            Paragraph::new(format!("{}: too large to show; c copies it out", human(*size))).alignment(Alignment::Center)
        }
        Preview::Failed(reason) => {
            let style = look.paint(Style::new().fg(Color::Red));
            Paragraph::new(reason.clone()).style(style).wrap(Wrap { trim: false })
        }
    };
    frame.render_widget(shown, inner);
}

fn framed(title: &str, focused: bool) -> Block<'static> {
    let style = if focused { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    Block::bordered().title(Span::styled(title.to_owned(), style)).border_style(if focused {
        style
    } else {
        style.add_modifier(Modifier::DIM)
    })
}

fn foot(browser: &Browser, seen: &Frame<'_>) -> Line<'static> {
    if let Mode::Search(prompt) = &browser.mode {
        return Line::raw(format!("/{}", prompt.text()));
    }
    // What was received has the manifest and the index in it, which a small archive has less of than those take.
    let (received, data) = (seen.traffic.received, seen.look.data_size);
    let whole = if received > data { String::new() } else { format!(" of {}", human(data)) };
    let fetched = format!(" {}, {}{whole} fetched", count(seen.traffic.requests, "request"), human(received));
    let marked = if browser.marked.is_empty() { String::new() } else { format!(" · {} marked", browser.marked.len()) };
    let said = match seen.advance {
        Some(advance) => advance.to_owned(),
        None if browser.message.is_empty() => "? help  / search  c copy  q quit".into(),
        None => browser.message.clone(),
    };
    Line::raw(format!("{fetched}{marked} · {said}"))
}

fn copy(frame: &mut ratatui::Frame<'_>, browser: &Browser, prompt: &super::prompt::Prompt, overwrite: bool) {
    let chosen = browser.chosen();
    let what = match chosen.as_slice() {
        [one] => Shown(one).to_string(),
        several => format!("{} marked", several.len()),
    };
    let area = centred(frame.area(), 70, 5);
    let block = Block::bordered().title(format!(" copy {what} to "));
    let inner = block.inner(area);
    let tick = if overwrite { 'x' } else { ' ' };
    let lines = vec![
        Line::raw(prompt.text()),
        Line::raw(""),
        Line::raw(format!("[{tick}] replace files that differ (Ctrl-O)   Enter copies   Esc")),
    ];
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(lines), inner);
    let column = (Line::raw(prompt.before()).width() as u16).min(inner.width.saturating_sub(1));
    frame.set_cursor_position((inner.x + column, inner.y));
}

/// Keys and what they do, as the documentation has them.
const HELP: [(&str, &str); 15] = [
    ("↑ ↓  k j", "move, or scroll the preview"),
    ("PgUp PgDn  Ctrl-U Ctrl-D", "by pages, by halves"),
    ("Home End  g G", "to the ends"),
    ("→ l", "open a directory, go into it, or to the preview"),
    ("Enter", "open or close a directory, or to the preview"),
    ("← h Backspace", "close, go to the parent, or back to the tree"),
    ("Tab", "between tree and preview"),
    ("/", "search paths; capitals count if one is typed"),
    ("n N", "next and previous match"),
    ("Space", "mark"),
    ("c", "copy the marked, or what the cursor is on, out of the archive"),
    ("p", "fetch a file of up to 8.0M for the preview"),
    ("y", "put the path on the clipboard"),
    ("Esc", "stop a copy, leave the preview, quit"),
    ("q  Ctrl-C", "quit"),
];

fn help(frame: &mut ratatui::Frame<'_>) {
    let area = centred(frame.area(), 92, HELP.len() as u16 + 2);
    let block = Block::bordered().title(" keys ").title_bottom(Line::raw(" any key goes back ").right_aligned());
    let lines: Vec<Line<'_>> = HELP.iter().map(|(keys, does)| Line::raw(format!(" {keys:<26}{does}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// An area of at most this size in the middle.
fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}
