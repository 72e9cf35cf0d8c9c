//! Where people edit responses: a local page, what it keeps, what that comes to.
//!
//! Serves the less preferred responses of pairs to annotators, appends what they do to a file ([`crate::data::annotations`]),
//! measures how far they agree, and exports. What an edit changed is `labels`' to say; what the file is good for in a plan is
//! the stage `edits`'.

pub mod change;
pub mod desk;
pub mod export;
pub mod import;
pub mod item;
pub mod links;
pub mod log;
mod page;
pub mod quality;
pub mod server;
mod view;
