//! The archive browser: a tree on the left, what is in the file on the right.
//!
//! The state changes in [`state`] alone, which touches neither terminal nor network: it takes keys and results and gives back
//! [`Effect`](state::Effect)s, and [`run`] carries them out. Reading and highlighting happen beside the screen, so that a slow
//! registry never holds up a key.

mod draw;
mod extract;
mod highlight;
mod preview;
mod prompt;
mod rows;
mod run;
mod search;
mod state;
mod terminal;

pub(crate) use run::run;
