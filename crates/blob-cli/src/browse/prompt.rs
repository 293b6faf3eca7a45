//! A line that is being typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The text so far; the cursor is a position in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    characters: Vec<char>,
    cursor: usize,
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Changed,
    Accepted,
    Given,
    Nothing,
}

impl Prompt {
    pub(super) fn with(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        Self { cursor: characters.len(), characters }
    }

    pub(super) fn text(&self) -> String {
        self.characters.iter().collect()
    }

    /// The text before the cursor.
    pub(super) fn before(&self) -> String {
        self.characters[..self.cursor].iter().collect()
    }

    /// The most characters of a line; a paste cannot make more.
    const LONGEST: usize = 4096;

    pub(super) fn key(&mut self, key: KeyEvent) -> Typed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Typed::Accepted,
            KeyCode::Esc => return Typed::Given,
            KeyCode::Char('u') if control => drop(self.characters.drain(..std::mem::take(&mut self.cursor))),
            KeyCode::Char(_) if control => return Typed::Nothing,
            KeyCode::Char(typed) if !typed.is_control() && self.characters.len() < Self::LONGEST => {
                self.characters.insert(self.cursor, typed);
                self.cursor += 1;
            }
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.characters.remove(self.cursor);
            }
            KeyCode::Delete if self.cursor < self.characters.len() => drop(self.characters.remove(self.cursor)),
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.characters.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.characters.len(),
            _ => return Typed::Nothing,
        }
        Typed::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited() {
        let mut prompt = Prompt::with("out");
        let keys = [
            (KeyCode::Left, "ou"),
            (KeyCode::Char('x'), "oux"),
            (KeyCode::Backspace, "ou"),
            (KeyCode::Home, ""),
            (KeyCode::Delete, ""),
            (KeyCode::Char('ä'), "ä"),
            (KeyCode::End, "äut"),
            (KeyCode::Right, "äut"),
            (KeyCode::Delete, "äut"),
        ];
        for (code, before) in keys {
            prompt.key(code.into());
            assert_eq!(prompt.before(), before, "{code:?}");
        }
        assert_eq!(prompt.text(), "äut");
        prompt.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!(prompt, Prompt::default());
        assert_eq!(prompt.key(KeyCode::Enter.into()), Typed::Accepted);
        assert_eq!(prompt.key(KeyCode::Esc.into()), Typed::Given);
    }
}
