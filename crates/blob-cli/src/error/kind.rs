//! What failures are about, and the exit codes that say so.

/// What a failure is about. Each kind has a name for programs and an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    General,
    Usage,
    NotFound,
    Authentication,
    Network,
    Verification,
    HashMismatch,
    /// Some of what was asked for was done, and then something failed.
    Partial,
    Interrupted,
    Terminated,
    /// What was compared is not the same, as `diff` says by its exit code.
    Different,
    /// What was looked for in files is in none of them, as `grep` says by its exit code.
    NotFoundInFiles,
    /// As `General`, where the exit code 1 has another meaning.
    Trouble,
    /// Whoever read our output has had enough, which is not a failure.
    ClosedOutput,
    /// A command that was run for somebody failed, with this exit code.
    #[cfg_attr(not(all(feature = "fuse", target_os = "linux")), allow(dead_code, reason = "mounts alone run commands"))]
    Command(u8),
}

impl Kind {
    /// Kind, name in JSON, exit code.
    const TABLE: [(Self, &'static str, u8); 14] = [
        (Self::General, "general", 1),
        (Self::Usage, "usage", 2),
        (Self::NotFound, "not_found", 3),
        (Self::Authentication, "authentication", 4),
        (Self::Network, "network", 5),
        (Self::Verification, "verification", 6),
        (Self::HashMismatch, "hash_mismatch", 7),
        (Self::Partial, "partial", 8),
        (Self::Interrupted, "interrupted", 130),
        (Self::Terminated, "terminated", 143),
        (Self::Different, "different", 1),
        (Self::NotFoundInFiles, "nothing", 1),
        (Self::Trouble, "general", 2),
        (Self::ClosedOutput, "closed_output", 0),
    ];

    fn row(self) -> (Self, &'static str, u8) {
        Self::TABLE.into_iter().find(|row| row.0 == self).unwrap_or(Self::TABLE[0])
    }

    /// The name for programs.
    pub(crate) fn name(self) -> &'static str {
        if let Self::Command(_) = self { "command" } else { self.row().1 }
    }

    /// The exit code.
    pub(crate) fn exit_code(self) -> u8 {
        if let Self::Command(code) = self { code } else { self.row().2 }
    }
}
