//! What people and programs see.

pub(crate) mod ask;
pub(crate) mod duration;
pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod mode;
mod narrate;
pub(crate) mod near;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod size;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod traffic;
pub(crate) mod tree;
