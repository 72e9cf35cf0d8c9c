//! Arguments, commands, diagnostics.
