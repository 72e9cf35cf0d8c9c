//! When to try again, and after how long.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::Conduct;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may have one next time; the endpoint may have said when. `broken` is a reply that failed or makes no sense: a gateway that
    /// knows the request again would give the same one.
    Passing { message: String, after: Option<Duration>, broken: bool },
    /// It would fail again.
    Lasting(String),
}

impl Failure {
    /// What a reply that is no success says.
    pub(super) fn of_status(status: u16, retry_after: Option<&str>, body: &str) -> Self {
        let body: String = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        let message = if body.is_empty() { format!("status {status}") } else { format!("status {status}: {body}") };
        // An account without money answers with 429 as well, and no waiting fills it.
        let broke = body.contains("insufficient_quota");
        if matches!(status, 408 | 409 | 425 | 429 | 500..=599) && !broke {
            let after = retry_after.and_then(|header| wait_of(header, Utc::now()));
            Self::Passing { message, after, broken: status >= 500 }
        } else {
            Self::Lasting(message)
        }
    }

    /// What a request that got no reply met.
    pub(super) fn of_error(error: &ureq::Error) -> Self {
        use ureq::Error;
        let message = error.to_string();
        match error {
            Error::Timeout(_)
            | Error::Io(_)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::Protocol(_)
            | Error::Decompress(..)
            | Error::ConnectProxyFailed(_) => Self::Passing { message, after: None, broken: false },
            _ => Self::Lasting(message),
        }
    }
}

/// A `Retry-After`: seconds, or a date in any of HTTP's three forms; a date that is over is no wait.
fn wait_of(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let old = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = DateTime::parse_from_rfc2822(header).map(|date| date.to_utc()).ok().or_else(|| {
        old.iter().find_map(|form| NaiveDateTime::parse_from_str(header, form).ok()).map(|date| date.and_utc())
    })?;
    Some((date - now).to_std().unwrap_or_default())
}

/// How long to wait before retry number `retry`, counted from 0; `lot` lies in [0, 1).
///
/// # Errors
/// What the endpoint asks for, in seconds, where that is longer than the recipe would wait.
pub(super) fn pause(conduct: &Conduct, retry: u32, after: Option<Duration>, lot: f64) -> Result<Duration, f64> {
    let most = conduct.max_wait_seconds.get();
    let doubled = conduct.first_wait_seconds.get() * 2_f64.powi(retry.min(30).cast_signed());
    let own = doubled.min(most) * (1.0 - lot / 2.0);
    let asked = after.unwrap_or_default().as_secs_f64();
    if asked > most {
        return Err(asked);
    }
    Ok(Duration::from_secs_f64(own.max(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc2822("Wed, 21 Oct 2015 07:28:00 GMT").unwrap().to_utc();
        let wait = |header| wait_of(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!([wait("7"), wait(" 0.5 "), wait("0")], [Some(7.0), Some(0.5), Some(0.0)]);
        for date in ["Wed, 21 Oct 2015 07:28:30 GMT", "Wednesday, 21-Oct-15 07:28:30 GMT", "Wed Oct 21 07:28:30 2015"] {
            assert_eq!(wait(date), Some(30.0), "{date}");
        }
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT"), Some(0.0));
        assert_eq!([wait("soon"), wait("-3"), wait("")], [None, None, None]);
    }

    #[test]
    fn waits_double_are_spread_and_never_shorter_than_asked() {
        let conduct = Conduct::default();
        let pause = |retry, after, lot| pause(&conduct, retry, after, lot).map(|wait| wait.as_secs_f64());
        assert_eq!([pause(0, None, 0.0), pause(3, None, 0.0)], [Ok(0.5), Ok(4.0)]);
        assert_eq!([pause(3, None, 0.5), pause(60, None, 0.0)], [Ok(3.0), Ok(120.0)]);
        assert_eq!(pause(0, Some(Duration::from_secs(9)), 0.9), Ok(9.0));
        assert_eq!(pause(0, Some(Duration::from_secs(500)), 0.9), Err(500.0));
    }

    #[test]
    fn what_passes_is_told_from_what_lasts() {
        let passes = |status, body| matches!(Failure::of_status(status, None, body), Failure::Passing { .. });
        assert!([408, 429, 500, 502, 503, 529].into_iter().all(|status| passes(status, "busy")));
        assert!(![301, 400, 401, 403, 404, 422].into_iter().any(|status| passes(status, "no")));
        assert!(!passes(429, r#"{"error": {"code": "insufficient_quota"}}"#));
    }
}
