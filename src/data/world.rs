//! The simulated world: records, sentences with faults, an oracle, an annotator, an editor.
