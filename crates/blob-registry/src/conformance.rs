//! The kit that every implementation of the registry trait runs.
