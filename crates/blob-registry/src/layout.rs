//! An OCI image layout on disk as a registry.
