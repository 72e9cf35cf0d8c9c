//! Content-addressed results on disk.
