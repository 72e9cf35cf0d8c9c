//! QA-feedback: real questions, preferences and human edits.
