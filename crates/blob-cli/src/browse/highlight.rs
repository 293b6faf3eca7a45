//! Colours for source text, in the palette of the terminal.

use std::sync::OnceLock;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use syntect::easy::HighlightLines;
use syntect::highlighting::{Color as ThemeColor, FontStyle, Theme};
use syntect::parsing::SyntaxSet;
use two_face::theme::{EmbeddedLazyThemeSet, EmbeddedThemeName};

/// Above this the colours would take longer than anybody reads.
const LINES: usize = 4_000;

/// Colours `lines` of the file `name`; `None` if no syntax is known for it. This takes processor time.
pub(super) fn lines(name: &str, lines: &[String]) -> Option<Vec<Line<'static>>> {
    let syntaxes = syntaxes();
    let first = lines.first()?;
    let extension = name.rsplit_once('.').map_or(name, |(_, extension)| extension);
    let by_name = syntaxes.find_syntax_by_extension(name).or_else(|| syntaxes.find_syntax_by_extension(extension));
    let syntax = by_name.or_else(|| syntaxes.find_syntax_by_first_line(first))?;
    let mut highlighter = HighlightLines::new(syntax, theme());
    let mut coloured = Vec::with_capacity(lines.len());
    for line in lines.iter().take(LINES) {
        let ended = format!("{line}\n");
        let spans = highlighter.highlight_line(&ended, syntaxes).ok()?;
        let spans = spans.into_iter().map(|(style, text)| {
            let text = text.trim_end_matches('\n').to_owned();
            Span::styled(text, paint(style.foreground, style.font_style))
        });
        coloured.push(Line::from(spans.collect::<Vec<_>>()));
    }
    coloured.extend(lines.iter().skip(LINES).map(|line| Line::raw(line.clone())));
    Some(coloured)
}

fn syntaxes() -> &'static SyntaxSet {
    static SYNTAXES: OnceLock<SyntaxSet> = OnceLock::new();
    SYNTAXES.get_or_init(two_face::syntax::extra_newlines)
}

fn theme() -> &'static Theme {
    static THEMES: OnceLock<EmbeddedLazyThemeSet> = OnceLock::new();
    THEMES.get_or_init(two_face::theme::extra).get(EmbeddedThemeName::Ansi)
}

/// The theme names colours of the palette: without opacity the red part is a number in it, and an opacity of one is the
/// terminal's own colour.
fn paint(color: ThemeColor, font: FontStyle) -> Style {
    let mut style = match color.a {
        0 => Style::new().fg(Color::Indexed(color.r)),
        1 => Style::new(),
        _ => Style::new().fg(Color::Rgb(color.r, color.g, color.b)),
    };
    if font.contains(FontStyle::BOLD) {
        style = style.add_modifier(Modifier::BOLD);
    }
    if font.contains(FontStyle::ITALIC) {
        style = style.add_modifier(Modifier::ITALIC);
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_syntaxes_are_coloured_and_keep_their_text() {
        let source: Vec<String> = ["fn main() {", "    let x = \"text\";", "}"].map(String::from).to_vec();
        let coloured = lines("main.rs", &source).expect("Rust is known");
        let text: Vec<String> = coloured.iter().map(ToString::to_string).collect();
        assert_eq!(text, source);
        let colours: std::collections::HashSet<_> = coloured.iter().flatten().map(|span| span.style.fg).collect();
        assert!(colours.len() > 1, "{colours:?}");
        assert!(lines("unknown.qqq", &["nothing in particular".into()]).is_none());
        assert!(lines("script", &["#!/bin/sh".into()]).is_some());
        assert!(lines("empty.rs", &[]).is_none());
    }
}
