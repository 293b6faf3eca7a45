//! Questions to people.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::output::complain;
use crate::error::Failure;

/// Asks on standard error; anything but yes, the end of the input among it, is no.
pub(crate) async fn confirmed(question: &str) -> Result<bool, Failure> {
    complain(question);
    let mut answer = String::new();
    let read = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
    read.map_err(|error| Failure::io("reading the answer from standard input", &error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
