//! Permission bits as `ls` writes them.

/// `-rw-r--r--`: the kind's character and three triplets.
pub(crate) fn text(kind: char, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(kind);
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if mode >> shift & bit != 0 { letter } else { '-' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_by_ls() {
        for (kind, mode, expected) in [
            ('-', 0o644, "-rw-r--r--"),
            ('d', 0o755, "drwxr-xr-x"),
            ('l', 0o777, "lrwxrwxrwx"),
            ('-', 0o000, "----------"),
            ('-', 0o4123, "---x-w--wx"),
        ] {
            assert_eq!(text(kind, mode), expected);
        }
    }
}
