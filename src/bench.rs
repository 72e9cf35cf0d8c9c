//! `runner bench`: tokens per second on fixed work.
