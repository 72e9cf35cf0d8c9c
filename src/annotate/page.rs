//! The page itself: one file, put together when it is built, that asks for nothing from anywhere else.

use anyhow::Result;

use super::links::token;

/// The page, and the policy under which a browser may show it: the script and style in it, requests to its own server, and
/// nothing else.
///
/// # Errors
/// When the system has no random numbers.
pub fn render() -> Result<(String, String)> {
    let nonce = token()?;
    let page = include_str!("page/page.html")
        .replace("/*STYLE*/", include_str!("page/page.css"))
        .replace("/*SCRIPT*/", SCRIPT)
        .replace("NONCE", &nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok((page, policy))
}

/// The script, in the order in which its parts build on one another.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/editor.js"),
    include_str!("page/views.js"),
    include_str!("page/keys.js"),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody() {
        let (page, policy) = render().unwrap();
        for left in
            ["/*STYLE*/", "/*SCRIPT*/", "NONCE", "http://", "https://", "innerHTML", "insertAdjacentHTML", "eval("]
        {
            assert!(!page.contains(left), "`{left}`");
        }
        assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
        assert_ne!(render().unwrap().1, policy);
    }
}
