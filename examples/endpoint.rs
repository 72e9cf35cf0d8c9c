//! A stand-in for a language model on this machine, for `recipes/judges.toml`: a few rules behind an OpenAI-compatible endpoint.
//!
//! ```sh
//! cargo run --release --example endpoint -- 8089
//! ```

#![allow(clippy::print_stdout, reason = "says where it listens")]

#[path = "../tests/served/mod.rs"]
mod served;

fn main() {
    let port = std::env::args().nth(1).map_or(Ok(8089), |port| port.parse()).expect("a port");
    let server = served::Server::start_at(port, served::rules::decide);
    println!("listening at {}; ends with Ctrl-C", server.base_url());
    loop {
        std::thread::park();
    }
}
